import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { mergeSettings, readSettings, type Settings, writeSettings } from '../../src/mesh/settings.ts'

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'batchmesh-settings-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

const all: Settings = {
  port: 0,
  listen: ['127.0.0.1'],
  announce: ['/ip4/192.0.2.1/tcp/4001'],
  bootstrap: ['/ip4/192.0.2.2/tcp/4001'],
  mdns: false,
  lendCpus: 2,
  lendMemoryMiB: 512,
  blobQuotaMiB: 100,
  diskReserveMiB: 0,
  pidsLimit: 500,
  labels: { room: 'lab' },
  class: 'low-priority',
  name: 'one',
}

describe('settings of a machine', () => {
  it('are none at the first start', async () => {
    expect(await readSettings(dir)).toEqual({})
  })

  it('come back as they were kept, and are for their owner only', async () => {
    await writeSettings(dir, { mdns: true })
    await writeSettings(dir, all)
    expect(await readSettings(dir)).toEqual(all)
    expect(readdirSync(dir)).toEqual(['settings.json'])
    expect(statSync(join(dir, 'settings.json')).mode & 0o777).toBe(0o600)
  })

  it('stay when they are not given again, and are replaced whole when they are', () => {
    const given: Settings = { port: undefined, lendCpus: 0, mdns: true, labels: { disk: 'ssd' }, listen: undefined }
    expect(mergeSettings(all, given)).toEqual({ ...all, lendCpus: 0, mdns: true, labels: { disk: 'ssd' } })
    expect(mergeSettings({}, { port: 0 })).toEqual({ port: 0 })
  })

  it.each([['{'], ['[]'], ['{"port": 70000}'], ['{"class": "spare"}'], ['{"lendCpu": 1}']])(
    'that read %s are refused with what to do',
    async (text) => {
      writeFileSync(join(dir, 'settings.json'), text)
      await expect(readSettings(dir)).rejects.toThrow(/settings\.json cannot be used .*--defaults/)
    },
  )
})
