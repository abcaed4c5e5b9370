/** Multicast in the local network: on each interface, whether the group can be joined and an own query is heard again. */
import { randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { networkInterfaces } from 'node:os'
import { type Check, ok, warning } from './check.ts'

const group = '224.0.0.251'
const mdnsPort = 5353
const hearMs = 1000

/** A DNS query (RFC 1035) for a PTR record of `label._udp.local`. */
export function query(label: string): Uint8Array {
  const labels = [label, '_udp', 'local'].flatMap((text) => [text.length, ...Buffer.from(text, 'latin1')])
  return Uint8Array.from([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 12, 0, 1])
}

/** What is wrong on the interface with this address; undefined: the query came back. */
function hears(address: string): Promise<string | undefined> {
  const label = `_batchmesh-doctor-${randomBytes(4).toString('hex')}`
  return new Promise((resolve) => {
    const socket = createSocket({ type: 'udp4', reuseAddr: true })
    const done = (trouble?: string) => {
      clearTimeout(timer)
      socket.close()
      resolve(trouble)
    }
    const timer = setTimeout(() => done('its own query was not heard'), hearMs)
    socket.once('error', (error) => done(error.message))
    socket.on('message', (message) => {
      if (message.includes(label)) done()
    })
    socket.bind(mdnsPort, () => {
      try {
        socket.addMembership(group, address)
        socket.setMulticastInterface(address)
        socket.setMulticastLoopback(true)
        socket.send(query(label), mdnsPort, group)
      } catch (error) {
        done((error as Error).message)
      }
    })
  })
}

export async function checkMdns(wanted: boolean): Promise<Check> {
  const name = 'local network'
  const otherwise = 'Machines are then not found by themselves: name one with batchmesh up --bootstrap /ip4/ADDRESS/tcp/PORT.'
  if (!wanted) return ok(name, 'mDNS is switched off (--no-mdns)')
  const all = Object.entries(networkInterfaces()).flatMap(([interfaceName, addresses]) =>
    (addresses ?? []).filter(({ family, internal }) => family === 'IPv4' && !internal).map(({ address }) => ({ interfaceName, address })),
  )
  if (all.length === 0) return warning(name, 'there is no network interface with an IPv4 address besides loopback', otherwise)
  const troubles = await Promise.all(all.map(({ address }) => hears(address)))
  const shown = all.map(({ interfaceName, address }, at) => `${interfaceName} (${address}): ${troubles[at] ?? 'works'}`).join('; ')
  return troubles.some((trouble) => trouble === undefined) ? ok(name, `mDNS on ${shown}`) : warning(name, `mDNS on ${shown}`, otherwise)
}
