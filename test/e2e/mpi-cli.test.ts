/** `mpi run` and `submit` with a real MPI on nodes of this machine, by the program of examples/mpi. What MPI itself does there: mpi.test.ts. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'

const examples = join(import.meta.dirname, '../../examples/mpi')

function versionOf(program: string): string {
  try {
    return execFileSync(program, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return ''
  }
}

const missing = !versionOf('mpirun').includes('Open MPI') ? 'no Open MPI here' : versionOf('mpicc') === '' ? 'no mpicc here' : undefined

describe.skipIf(missing !== undefined)(`a program for MPI${missing === undefined ? '' : ` (${missing})`}`, () => {
  let lab: MeshLab
  let founder: NodeProcess
  let cwd: string

  beforeAll(async () => {
    lab = await MeshLab.create()
    // As many cores as the test takes, whatever the machine has.
    founder = await lab.up('n1', { args: ['--lend-cpus', '2'] })
    await lab.up('n2', { join: founder, args: ['--lend-cpus', '2'] })
    cwd = join(lab.root, 'work')
    mkdirSync(cwd)
    execFileSync('mpicc', ['-O2', '-o', join(cwd, 'pi'), join(examples, 'pi.c')])
    copyFileSync(join(examples, 'pi.sh'), join(cwd, 'pi.sh'))
  })
  afterAll(() => lab?.close())

  const cli = (...words: string[]) => lab.cli(founder, words, { cwd })

  it('runs on nodes of a pool that is gone when it ends', async () => {
    const ran = await cli(
      'mpi',
      'run',
      '-n',
      '4',
      '--nodes',
      '2',
      '--with',
      './pi',
      '--outputs',
      'pi.txt',
      '--to',
      '.',
      '--',
      './pi',
      '1000',
    )
    expect(ran).toMatchObject({ code: 0 })
    const lines = ran.stdout.trim().split('\n').sort()
    expect(lines.filter((line) => line.includes(' adds ')).map((line) => line.slice(0, 4))).toEqual(['[0] ', '[1] ', '[2] ', '[3] '])
    expect(lines).toContain('[0] pi is about 3.141593')
    expect(readFileSync(join(cwd, 'pi.txt'), 'utf8')).toBe('3.141593\n')
    expect((await cli('pool', 'list', '--query', '[].id', '-o', 'tsv')).stdout).toBe('default\n')
  })

  it('exits with the exit code of its ranks', async () => {
    const ran = await cli('mpi', 'run', '-n', '2', '--nodes', '2', '--job-id', 'fails', '--', 'sh', '-c', 'echo bad >&2; exit 3')
    expect(ran).toMatchObject({ code: 3, stdout: '' })
    expect(ran.stderr).toMatch(/^\[[01]\] bad$/m)
    expect((await cli('task', 'logs', 'fails/mpi', '--stderr', '--rank', '0')).stdout).toMatch(/^(\[0\] bad\n)?$/)
  })

  it('is started by mpirun and srun in a script for Slurm', async () => {
    const ran = await cli('submit', '--wait', '--with', './pi', '--output-file', 'slurm.out', 'pi.sh')
    expect(ran).toMatchObject({ code: 0 })
    expect(readFileSync(join(cwd, 'slurm.out'), 'utf8').match(/pi is about 3\.14159/g)).toHaveLength(2)
  })
})
