import { describe, expect, it } from 'vitest'
import { Link, type LinkParts } from '../../node/worker/link.ts'
import { MeshError } from '../../protocols/errors.ts'
import { silentLogger } from '../../protocols/logger.ts'
import { poolsTopic } from '../../protocols/pools.ts'
import type { Wire } from '../../protocols/wire.ts'

const coordinator = 'peer-of-the-coordinator'

/** A link whose every try fails and is followed by an hour's pause. */
function setup() {
  const tries: (() => void)[] = []
  let heard = (_from: string) => {}
  let topic = ''
  let count = 0
  const wire = {
    open: () => {
      count += 1
      for (const tell of tries.splice(0)) tell()
      return Promise.reject(new MeshError('AuthenticationFailed', 'This machine was removed from the mesh.'))
    },
    subscribe: (name: string, handler: (data: Uint8Array, from: string) => void) => {
      topic = name
      heard = (from) => handler(new Uint8Array(), from)
      return () => {}
    },
  } as unknown as Wire
  const parts = { wire, meshId: 'm', coordinator, removed: () => {}, now: Date.now, random: () => 1, log: silentLogger }
  const link = new Link(parts as unknown as LinkParts)
  const nextTry = () => new Promise<void>((resolve) => tries.push(resolve))
  return { link, nextTry, hear: (from: string) => heard(from), topic: () => topic, count: () => count }
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

describe('a machine that waits before its next try', () => {
  it('G1: tries at once when the coordinator announces its pools, and for nobody else', async () => {
    const { link, nextTry, hear, topic, count } = setup()
    const first = nextTry()
    link.open()
    await first
    expect(topic()).toBe(poolsTopic('m'))
    await nextTurn()
    hear('somebody else')
    await nextTurn()
    await nextTurn()
    expect(count()).toBe(1)
    const second = nextTry()
    hear(coordinator)
    await second
    await link.close()
  })
})
