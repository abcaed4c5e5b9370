/** Members part together: nobody leaves before the primary has what all returned. */
import { describe, expect, it } from 'vitest'
import { PartingLink } from '../../node/executors/threads/parting-link.ts'
import type { Envelope, Link, Receiver } from '../../node/groups/link.ts'

/** Links in memory; one can be cut off from all others. */
class Wires {
  readonly links: PartingLink[]
  readonly #receivers: Receiver[] = []
  readonly heard: string[] = []

  constructor(size: number) {
    this.links = Array.from({ length: size }, (_, rank) => {
      const link = new PartingLink(this.#link(rank, size))
      link.receive({
        begin: (_from, { bytes }) => new Uint8Array(bytes),
        end: (from, _envelope, data) => this.heard.push(`${rank} got ${data.length} bytes from ${from}`),
        lost: (lost, error) => this.heard.push(`${rank} lost ${lost}: ${error.message}`),
      })
      return link
    })
  }

  #link(rank: number, size: number): Link {
    return {
      rank,
      size,
      receive: (receiver) => {
        this.#receivers[rank] = receiver
      },
      send: (to, envelope: Envelope, data) => {
        const target = this.#receivers[to]!.begin(rank, envelope)
        target.set(data)
        this.#receivers[to]!.end(rank, envelope, target)
        return undefined
      },
      shared: async () => undefined,
      close: async () => undefined,
    }
  }

  lose(rank: number): void {
    for (const [other, receiver] of this.#receivers.entries()) if (other !== rank) receiver.lost(rank, new Error('its machine is gone'))
  }
}

const bytes = (...values: number[]) => Uint8Array.from(values)

describe('parting', () => {
  it('gives the primary what all returned, by rank, and lets the others go when it says so', async () => {
    const { links } = new Wires(3)
    const [first, second, third] = links as [PartingLink, PartingLink, PartingLink]
    const gone: number[] = []
    const others = [second.part(bytes(2, 2)).then(() => gone.push(1)), third.part(bytes(3)).then(() => gone.push(2))]
    expect(await first.part(bytes(1))).toEqual([bytes(1), bytes(2, 2), bytes(3)])
    expect(gone).toEqual([])
    await first.release()
    await Promise.all(others)
    expect(gone.toSorted((a, b) => a - b)).toEqual([1, 2])
  })

  it('passes all other messages on to the group', () => {
    const wires = new Wires(2)
    void wires.links[0]!.send(1, { context: 5, tag: 1, type: 0, bytes: 2 }, bytes(1, 2))
    expect(wires.heard).toEqual(['1 got 2 bytes from 0'])
  })

  it('of the primary fails when a member is lost that has not parted', async () => {
    const wires = new Wires(3)
    const all = wires.links[0]!.part(bytes(1))
    void wires.links[1]!.part(bytes(2)).catch(() => undefined)
    wires.lose(2)
    await expect(all).rejects.toThrow('its machine is gone')
    expect(wires.links[0]!.missing).toBe(2)
    expect(wires.heard).toContain('0 lost 2: its machine is gone')
  })

  it('is not hindered by the loss of a member that has parted; the group hears of it', async () => {
    const wires = new Wires(3)
    void wires.links[2]!.part(bytes(3)).catch(() => undefined)
    wires.lose(2)
    expect(wires.heard).toContain('0 lost 2: its machine is gone')
    const second = wires.links[1]!.part(bytes(2))
    expect(await wires.links[0]!.part(bytes(1))).toEqual([bytes(1), bytes(2), bytes(3)])
    await wires.links[0]!.release()
    await second
    expect(wires.links[0]!.missing).toBeUndefined()
  })

  it('of any other member fails with the primary, also if that was lost before', async () => {
    const wires = new Wires(2)
    wires.lose(0)
    await expect(wires.links[1]!.part(bytes(2))).rejects.toThrow('its machine is gone')
  })

  it('takes a loss that somebody else noticed, once', () => {
    const wires = new Wires(2)
    wires.links[0]!.lose(1, new Error('said the node'))
    wires.lose(1)
    expect(wires.heard).toEqual(['0 lost 1: said the node'])
  })
})
