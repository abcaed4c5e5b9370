import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Level } from 'level'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Finished, type Journal, openJournal } from '../../node/journal.ts'

let root: string
let at: string
let open: Journal[]

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'journal-'))
  at = join(root, 'journal')
  open = []
})
afterEach(async () => {
  for (const journal of open) await journal.close()
  rmSync(root, { recursive: true, force: true })
})

async function journalAt(path = at): Promise<Journal> {
  const journal = await openJournal(path)
  open.push(journal)
  return journal
}

async function reopened(journal: Journal): Promise<Journal> {
  await journal.close()
  open.splice(open.indexOf(journal), 1)
  return await journalAt()
}

const item = (task: string): Finished => ({
  attempt: { jobUid: 7, task, epoch: 2 },
  nodeId: 'n',
  outcome: { exitCode: 3, startTime: 1, endTime: 2, failureInfo: { category: 'usererror', code: 'FailureExitCode', message: 'x' } },
})
const reservation = {
  reservationId: 4,
  ownerEpoch: 1,
  poolId: 'p',
  nodeId: 'p-4',
  size: { cores: 1, memoryMiB: 512, gpus: 0 },
  taskSlots: 1,
}

describe('the node journal', () => {
  it('L7: counts each start', async () => {
    const first = await journalAt()
    expect(first.remembered).toEqual({ incarnation: 1, ownerEpoch: 0, reservations: [], finished: [] })
    const second = await reopened(first)
    expect(second.remembered.incarnation).toBe(2)
    expect((await reopened(second)).remembered.incarnation).toBe(3)
  })

  it('L7: made anew where it was lost, begins above what was counted before', async () => {
    const first = await openJournal(at, 1_700_000_000)
    expect(first.remembered.incarnation).toBe(1_700_000_000)
    await first.close()
    const second = await openJournal(at, 1_700_009_999)
    open.push(second)
    expect(second.remembered.incarnation).toBe(1_700_000_001)
  })

  it('L6: keeps outcomes until they are acknowledged', async () => {
    let journal = await journalAt()
    await Promise.all([journal.finished(item('a')), journal.finished(item('b'))])
    journal = await reopened(journal)
    expect(journal.remembered.finished).toEqual([item('a'), item('b')])
    journal.acknowledged(item('a').attempt)
    journal = await reopened(journal)
    expect(journal.remembered.finished).toEqual([item('b')])
  })

  it('L6: forgets an outcome that is acknowledged at any moment of its being written', async () => {
    const journal = await journalAt()
    for (let n = 0; n < 50; n += 1) {
      const one = item(`t${n}`)
      const written = journal.finished(one)
      // Urgent rows drive the batches, so acknowledgements meet rows that wait, are under way, and are written.
      const other = journal.obeyed(n + 1)
      if (n % 3 === 1) await other
      if (n % 3 === 2) await written
      journal.acknowledged(one.attempt)
    }
    await journal.finished(item('last'))
    expect((await reopened(journal)).remembered.finished).toEqual([item('last')])
  })

  it('R1: keeps the owner epoch and the reservations', async () => {
    let journal = await journalAt()
    await journal.obeyed(5)
    await journal.reserve(reservation)
    journal = await reopened(journal)
    expect(journal.remembered).toMatchObject({ ownerEpoch: 5, reservations: [reservation] })
    await journal.release(4)
    expect((await reopened(journal)).remembered.reservations).toEqual([])
  })

  it('is not opened twice', async () => {
    await journalAt()
    await expect(openJournal(at)).rejects.toThrow('is in use: another node runs with this data directory')
  })

  it('refuses a database of something else', async () => {
    const db = new Level(at)
    await db.put('hello', 'world')
    await db.close()
    await expect(openJournal(at)).rejects.toThrow('is no node journal of this version')
  })

  it('names the row that is damaged', async () => {
    await reopened(await journalAt())
    await open.pop()!.close()
    const db = new Level<string, Uint8Array>(at, { valueEncoding: 'view' })
    await db.put('incarnation', new Uint8Array([0xc1]))
    await db.close()
    await expect(openJournal(at)).rejects.toThrow('is damaged at the row incarnation')
  })

  it('refuses a damaged database with a way out', async () => {
    await (await journalAt()).close()
    open = []
    for (const name of readdirSync(at)) if (name.startsWith('MANIFEST') || name === 'CURRENT') writeFileSync(join(at, name), 'rubbish')
    await expect(openJournal(at)).rejects.toThrow('move the directory away')
  })

  it.each([
    ['a byte of its log is flipped', (path: string) => writeFileSync(path, readFileSync(path).fill(0xff, 10, 11))],
    ['its log is removed', (path: string) => rmSync(path)],
  ])('refuses a database whose rows are not those that it wrote, with a way out: %s', async (_, damage) => {
    let journal = await journalAt()
    for (let n = 0; n < 10; n += 1) await journal.obeyed(n + 1)
    journal = await reopened(journal)
    for (let n = 10; n < 20; n += 1) await journal.obeyed(n + 1)
    await open.pop()!.close()
    damage(join(at, readdirSync(at).find((name) => name.endsWith('.log'))!))
    await expect(openJournal(at)).rejects.toThrow('move the directory away')
  })

  it('says so once it is broken, and refuses every later write', async () => {
    const journal = await journalAt()
    await journal.close()
    open = []
    await expect(journal.obeyed(1)).rejects.toThrow('is closed')
    await expect(journal.finished(item('a'))).rejects.toThrow('is closed')
  })
})
