/** Directories that killed programs left. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { controlSocketPath } from '../../src/config.ts'
import { markName, removeLeftovers } from '../../src/library/temporary.ts'

const now = 1_800_000_000_000
const hourMs = 3_600_000

let root: string
let servers: Server[]
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'bm-'))
  servers = []
})
afterEach(async () => {
  for (const server of servers) await new Promise((resolve) => server.close(resolve))
  rmSync(root, { recursive: true, force: true })
})

/** A directory that was last changed `ageMs` ago, with the control socket of a node in `machine`. */
async function leave(
  name: string,
  ageMs: number,
  options: { machine?: string; isListening?: boolean; isChosen?: boolean } = {},
): Promise<string> {
  const path = join(root, name)
  const socketPath = controlSocketPath(join(path, options.machine ?? ''))
  mkdirSync(dirname(socketPath), { recursive: true })
  if (options.isChosen !== true) writeFileSync(join(path, markName), '')
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  if (options.isListening === true) servers.push(server)
  else await new Promise((resolve) => server.close(resolve))
  utimesSync(path, (now - ageMs) / 1000, (now - ageMs) / 1000)
  return path
}

it('what a killed program left is removed after an hour', async () => {
  const old = [await leave('batchmesh-aB3dE6', 2 * hourMs), await leave('batchmesh-test-aB3dE6', 2 * hourMs, { machine: 'machine-1' })]
  const young = await leave('batchmesh-aB3dE7', hourMs / 2)
  await removeLeftovers(root, now)
  expect([...old, young].map((path) => existsSync(path))).toEqual([false, false, true])
})

it('what somebody listens in is kept, however old', async () => {
  const kept = [
    await leave('batchmesh-aB3dE6', 90 * hourMs, { isListening: true }),
    await leave('batchmesh-test-aB3dE6', 90 * hourMs, { machine: 'machine-1', isListening: true }),
  ]
  await removeLeftovers(root, now)
  expect(kept.map((path) => existsSync(path))).toEqual([true, true])
})

it('a data directory that somebody chose, or a link, is not touched', async () => {
  const kept = [await leave('batchmesh-mydata', 2 * hourMs, { isChosen: true }), await leave('batchmesh-lab-aB3dE6', 2 * hourMs)]
  symlinkSync(kept[1]!, join(root, 'batchmesh-aB3dE6'))
  await removeLeftovers(root, now)
  expect([...kept, join(root, 'batchmesh-aB3dE6')].map((path) => existsSync(path))).toEqual([true, true, true])
})
