import { chmod, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { activeFabrics, installedMpi, readVersion } from '../../../node/mpi/detect.ts'
import { temporaryDir } from '../../contracts/mesh-fixture.ts'

const openMpi = 'mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n'
const mpich = 'HYDRA build details:\n    Version:                                 4.0.2\n    Release Date:  Thu Apr  7 12:34:45 CDT 2022\n'

describe('what a launcher says of itself', () => {
  it.each([
    [openMpi, { flavor: 'openmpi', version: '4.1.4' }],
    ['mpirun (Open MPI) 5.0.3rc1\n', { flavor: 'openmpi', version: '5.0.3rc1' }],
    [mpich, { flavor: 'mpich', version: '4.0.2' }],
    ['Intel(R) MPI Library for Linux* OS, Version 2021.11\n', undefined],
    ['', undefined],
  ])('%j is %j', (said, read) => {
    expect(readVersion(said)).toEqual(read)
  })
})

async function programs(t: { onTestFinished(done: () => Promise<void>): void }, files: Record<string, string>): Promise<string> {
  const dir = await temporaryDir()
  t.onTestFinished(() => rm(dir, { recursive: true, force: true }))
  for (const [name, script] of Object.entries(files)) {
    await writeFile(join(dir, name), `#!/bin/sh\n${script}`)
    await chmod(join(dir, name), 0o755)
  }
  return dir
}

describe('MPI on a machine', () => {
  it('is told once for each flavor, of the launchers that tasks find, mpirun first', async (t) => {
    const dir = await programs(t, {
      mpirun: `printf '${openMpi.replaceAll('\n', '\\n')}'`,
      'mpirun.openmpi': `printf '${openMpi.replace('4.1.4', '3.0.0').replaceAll('\n', '\\n')}'`,
      'mpiexec.hydra': `printf '${mpich.replaceAll('\n', '\\n')}'`,
    })
    expect(await installedMpi({ path: `/nowhere:${dir}:/bin` })).toEqual([
      { flavor: 'openmpi', version: '4.1.4' },
      { flavor: 'mpich', version: '4.0.2' },
    ])
  })
  it('is none where there is no launcher, or none that answers in time', async (t) => {
    expect(await installedMpi({ path: '/nowhere' })).toEqual([])
    const dir = await programs(t, { mpirun: 'while :; do :; done' })
    expect(await installedMpi({ path: dir, timeoutMs: 50 })).toEqual([])
  })
})

describe('fast networks', () => {
  it('are devices with a port that is up', async (t) => {
    const systemRoot = await programs(t, {})
    const port = async (device: string, number: number, state: string) => {
      const dir = join(systemRoot, 'sys/class/infiniband', device, 'ports', String(number))
      await mkdir(dir, { recursive: true })
      await writeFile(join(dir, 'state'), `${state}\n`)
    }
    await port('mlx5_0', 1, '4: ACTIVE')
    await port('mlx5_1', 1, '1: DOWN')
    await port('hfi1_0', 1, '1: DOWN')
    await port('hfi1_0', 2, '4: ACTIVE')
    await mkdir(join(systemRoot, 'sys/class/cxi/cxi0'), { recursive: true })
    expect(await activeFabrics({ systemRoot })).toEqual(['hfi1_0', 'mlx5_0', 'cxi0'])
    expect(await activeFabrics({ systemRoot: '/nowhere' })).toEqual([])
  })
})
