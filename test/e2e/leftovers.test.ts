/** What a killed node leaves on its disk. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { MeshLab } from './support/mesh-lab.ts'

describe('a killed node', () => {
  it('leaves no lanes behind for longer than to its next start', async (t) => {
    const lab = await MeshLab.create(t)
    const lanes = async (dataDir: string) => (await readdir(join(dataDir, 'run'))).filter((name) => name.startsWith('lanes-'))
    const first = await lab.up('one')
    expect((await lab.cli(first, ['run', 'echo left >/tmp/file'])).code).toBe(0)
    const [old] = await lanes(first.dataDir)
    await first.kill()
    expect(await lanes(first.dataDir)).toEqual([old])
    const second = await lab.up('one')
    await lab.until('they are gone', async () => !(await lanes(second.dataDir)).includes(old!))
    expect(await lanes(second.dataDir)).toHaveLength(1)
    expect((await lab.cli(second, ['run', 'true'])).code).toBe(0)
  })
})
