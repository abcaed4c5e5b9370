/**
 * What a member tells the others before they meet: where it can be reached. JSON, at most 4 KiB, because the threads of tasks
 * have no packages.
 */

export const maxCardBytes = 4096
/** More than the interfaces of a machine. */
const maxAddresses = 32

export interface Card {
  /** IP addresses or names, best first. Empty: it is reached in its own process only. */
  addresses: readonly string[]
  port: number
  /** Names the process, where its threads can share memory. */
  process?: string
}

/** Throws a RangeError for one that is too large. */
export function encodeCard(card: Card): Uint8Array {
  const bytes = new TextEncoder().encode(JSON.stringify(card))
  if (bytes.length > maxCardBytes || card.addresses.length > maxAddresses)
    throw new RangeError(`A member has at most ${maxAddresses} addresses, in ${maxCardBytes} bytes.`)
  return bytes
}

/** Throws for what is no card. */
export function decodeCard(bytes: Uint8Array): Card {
  if (bytes.length <= maxCardBytes) {
    try {
      const { addresses, port, process } = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Partial<Card>
      if (
        Array.isArray(addresses) &&
        addresses.length <= maxAddresses &&
        addresses.every((address) => typeof address === 'string') &&
        Number.isInteger(port) &&
        port! >= 0 &&
        port! <= 0xffff &&
        (process === undefined || typeof process === 'string')
      )
        return { addresses, port: port!, ...(process === undefined ? {} : { process }) }
    } catch {
      // Said below.
    }
  }
  throw new Error('A member says of itself what nobody understands: it is of another version.')
}
