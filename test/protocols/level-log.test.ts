import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Level } from 'level'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { filesTrouble, isLogDamaged } from '../../protocols/level-log.ts'

let dir: string
let log: Uint8Array
/** The log of a real database: batches of one to many blocks. */
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'batchmesh-level-'))
  const level = new Level<string, string>(dir)
  for (let n = 0; n < 60; n += 1) await level.put(`key ${n}`, String(n).repeat(n % 7 === 0 ? 40_000 : 50), { sync: true })
  await level.close()
  const name = (await readdir(dir)).find((file) => file.endsWith('.log'))!
  log = await readFile(join(dir, name))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

describe('the log of a LevelDB', () => {
  it('is not damaged as it was written', () => {
    expect(log.length).toBeGreaterThan(500_000)
    expect(isLogDamaged(log)).toBe(false)
    expect(isLogDamaged(new Uint8Array())).toBe(false)
  })

  it('L5: is not damaged where a crash tore its last batch', () => {
    for (const cut of [1, 7, 100, 3000, 33_000, 70_000]) expect(isLogDamaged(log.subarray(0, log.length - cut))).toBe(false)
  })

  it('L5: is damaged where a byte was flipped, or a page is missing, before batches that are whole', () => {
    for (let at = 0; at < log.length - 100_000; at += 9973) {
      const flipped = Uint8Array.from(log)
      flipped[at]! ^= 0x10
      expect(isLogDamaged(flipped), `byte ${at}`).toBe(true)
      expect(isLogDamaged(Uint8Array.from(log).fill(0, at, at + 4096)), `page at ${at}`).toBe(true)
    }
  })
})

describe('the files of a LevelDB', () => {
  it('are whole as they were left, or when there are none', async () => {
    expect(filesTrouble(await readdir(dir))).toBeUndefined()
    expect(filesTrouble([])).toBeUndefined()
    expect(filesTrouble(['LOCK', 'LOG'])).toBeUndefined()
  })

  it('are whole where the first start broke off', () => {
    expect(filesTrouble(['LOCK', 'MANIFEST-000001', '000001.dbtmp'])).toBeUndefined()
    expect(filesTrouble(['CURRENT', 'LOCK', 'MANIFEST-000001'])).toBeUndefined()
  })

  it('are in trouble without CURRENT or without a log', async () => {
    const names = await readdir(dir)
    expect(filesTrouble(names.filter((name) => name !== 'CURRENT'))).toContain('CURRENT')
    expect(filesTrouble(names.filter((name) => !name.endsWith('.log')))).toContain('no log')
  })
})
