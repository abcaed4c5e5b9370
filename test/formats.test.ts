/**
 * What version 0.1 left on a disk, and what a newer version might have: the first is taken up, the second refused with a
 * sentence, and left as it was. The rows in store-0.1.json were dumped from a node of 0.1.0 that was killed at work.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Level } from 'level'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { boot } from '../coordinator/boot.ts'
import type { Effect, Event } from '../coordinator/events.ts'
import { endTurn, step } from '../coordinator/machine.ts'
import { allRows } from '../coordinator/restored.ts'
import { type MeshRow, meshKey, storeFormat } from '../coordinator/rows.ts'
import type { State } from '../coordinator/state.ts'
import { createMemoryStore, openLevelStore } from '../coordinator/store.ts'
import { openJournal } from '../node/journal.ts'
import { Ledger } from '../node/store/ledger.ts'
import { decode, encode } from '../protocols/codec.ts'
import { readSettings } from '../src/mesh/settings.ts'

const kept = JSON.parse(readFileSync(new URL('coordinator/store-0.1.json', import.meta.url), 'utf8')) as Record<
  'coordinator' | 'journal',
  Record<string, string>
>
function rowsOf(part: keyof typeof kept): Map<string, Uint8Array> {
  return new Map(Object.entries(kept[part]).map(([key, value]) => [key, new Uint8Array(Buffer.from(value, 'base64'))]))
}
/** The machine of 0.1, which was founder and worker. */
const peer = Object.keys(kept.coordinator)
  .find((key) => key.startsWith('mach/'))!
  .slice('mach/'.length)

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'batchmesh-formats-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

async function levelWith(rows: ReadonlyMap<string, Uint8Array>): Promise<string> {
  const level = new Level<string, Uint8Array>(join(root, 'db'), { keyEncoding: 'utf8', valueEncoding: 'view' })
  await level.batch([...rows].map(([key, value]) => ({ type: 'put' as const, key, value })))
  await level.close()
  return join(root, 'db')
}

async function readAll(path: string): Promise<Map<string, Uint8Array>> {
  const level = new Level<string, Uint8Array>(path, { keyEncoding: 'utf8', valueEncoding: 'view' })
  const rows = new Map((await level.iterator().all()).map(([key, value]) => [key, new Uint8Array(value)]))
  await level.close()
  return rows
}

describe('the coordinator’s database of 0.1', () => {
  const turn = (state: State, event: Event): Effect[] => [...step(state, event, 1_000_000), ...endTurn(state, 1_000_000)]
  const machine = () =>
    (decode(rowsOf('coordinator').get(`mach/${peer}`)!) as { description: Extract<Event, { kind: 'hello' }>['hello']['machine'] })
      .description

  it('is taken up: what was done stays done, what ran is kept or run again, what waited is given out', async () => {
    const store = await openLevelStore(await levelWith(rowsOf('coordinator')))
    const { state, migrated } = await boot(store, peer, 1_000_000)
    expect(decode((await store.get(meshKey))!)).toMatchObject({ format: storeFormat, ownerEpoch: 2, nextJobUid: 3 })
    expect(migrated.length).toBeGreaterThan(0)
    const work = state.jobIds.get('work')!
    expect([work.succeeded, work.failed, work.leased]).toEqual([2, 0, 1])
    expect(state.jobIds.get('done')!.row.state).toBe('completed')
    // L6: it was killed, so its inventory is empty, and what it ran is given out anew.
    const hello = { machine: { ...machine(), labels: { disk: 'none' } }, incarnation: 2, inventory: [], reservations: [], ownerEpoch: 1 }
    turn(state, { kind: 'hello', replyTo: 1, peer, session: 1, roles: ['worker'], hello } as never)
    const nodeId = `tvm-${peer.slice(-12).toLowerCase()}`
    const claim = {
      requestId: 'c',
      nodes: [{ nodeId, room: { slots: 2, cores: 2, memoryMiB: 1000, gpus: 0 }, prefetchSlots: 0 }],
      waitMs: 0,
    }
    const effects = turn(state, { kind: 'claim', replyTo: 2, peer, session: 1, claim } as never)
    const grants = effects.flatMap((effect) => (effect.kind === 'grants' ? effect.grants : []))
    expect(grants.map(({ attempt }) => `${attempt.task}#${attempt.epoch}`).sort()).toEqual(['long#2', 'waits#1'])
    await store.close()
  })

  it('of a newer version is refused, and nothing in it is changed', async () => {
    const store = createMemoryStore()
    const rows = rowsOf('coordinator')
    rows.set(meshKey, encode({ ...(decode(rows.get(meshKey)!) as MeshRow), format: storeFormat + 1 }))
    await store.write(rows)
    await expect(boot(store, peer, 0)).rejects.toThrow(
      `has format ${storeFormat + 1}, this version of batchmesh knows format ${storeFormat}`,
    )
    const after = new Map<string, Uint8Array>()
    for await (const [key, value] of store.scan(allRows)) after.set(key, value)
    expect(after).toEqual(rows)
  })
})

describe('the journal', () => {
  it('of 0.1 is taken up', async () => {
    const journal = await openJournal(await levelWith(rowsOf('journal')))
    expect(journal.remembered).toEqual({ incarnation: 2, ownerEpoch: 1, reservations: [], finished: [] })
    await journal.close()
  })

  it('of a newer version is refused, and nothing in it is changed', async () => {
    const rows = rowsOf('journal').set('format', encode('batchmesh node journal 2'))
    const path = await levelWith(rows)
    await expect(openJournal(path)).rejects.toThrow('is no node journal of this version')
    expect(await readAll(path)).toEqual(rows)
  })
})

describe('the index of the blob store', () => {
  it('of 0.1, which had no number, is taken up and has one', async () => {
    const path = await levelWith(new Map([['used', encode(7)]]))
    const ledger = await Ledger.open(path, root)
    expect(ledger.usedBytes).toBe(7)
    await ledger.close()
    expect(decode((await readAll(path)).get('format')!)).toBe(1)
  })

  it('of a newer version is refused, and nothing in it is changed', async () => {
    const rows = new Map([['format', encode(2)]])
    const path = await levelWith(rows)
    await expect(Ledger.open(path, root)).rejects.toThrow('has format 2, this version of Batchmesh knows format 1')
    expect(await readAll(path)).toEqual(rows)
  })
})

describe('settings.json', () => {
  it('of 0.1 is read; a setting of a newer version is refused by its name', async () => {
    writeFileSync(join(root, 'settings.json'), '{"port":0,"listen":["127.0.0.1"],"mdns":false,"lendCpus":2,"name":"tower"}')
    expect(await readSettings(root)).toEqual({ port: 0, listen: ['127.0.0.1'], mdns: false, lendCpus: 2, name: 'tower' })
    writeFileSync(join(root, 'settings.json'), '{"port":0,"fromLater":1}')
    await expect(readSettings(root)).rejects.toThrow(/cannot be used \(.*fromLater/)
  })
})
