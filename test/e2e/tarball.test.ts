/** The file that holds Batchmesh with its own Node: unpacked elsewhere, it runs for an ordinary user on a machine without Node. */
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, readdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { MeshLab, type Ran } from './support/mesh-lab.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url))
/** Of nobody on most systems, and of no lane of a node. */
const nobody = 65_534

it('runs a mesh without root and without Node in the path', async (t) => {
  if (process.platform !== 'linux') return t.skip('it is made on Linux')
  if (!existsSync(join(checkout, `node_modules/node-linux-${process.arch}/bin/node`))) return t.skip('no Node is among the packages')
  const lab = await MeshLab.create(t)
  const run = (words: readonly string[], env: Record<string, string | undefined> = {}): Promise<Ran> => {
    const running = lab.spawn(words, { env: { NODE_OPTIONS: undefined, NODE_PATH: undefined, ...env } })
    running.child.stdin!.end()
    return running.exited
  }
  const packed = await run([join(checkout, 'scripts/tarball'), '--fast'])
  expect(packed, packed.stderr).toMatchObject({ code: 0 })
  const file = /^out\/\S+\.tar\.gz/.exec(packed.stdout)![0]
  expect(file).toMatch(new RegExp(`^out/batchmesh-\\d+\\.\\d+\\.\\d+-linux-${process.arch}\\.tar\\.gz$`))
  // Away from the checkout, whose packages would be found in the directories above.
  expect((await run(['tar', '-xzf', join(checkout, file)])).code).toBe(0)
  const home = join(lab.root, 'batchmesh')
  expect((await readdir(home)).sort()).toEqual(
    ['CHANGELOG.md', 'LICENSE', 'README.md', 'THIRD-PARTY-LICENSES.txt', 'bin', 'dist', 'docs', 'node_modules', 'package.json'].sort(),
  )
  expect(await readFile(join(home, 'THIRD-PARTY-LICENSES.txt'), 'utf8')).toMatch(/^libp2p \d/m)
  expect(existsSync(join(home, 'node_modules/vitest')), 'what only development needs').toBe(false)

  // The system's programs, all but Node.
  const programs = join(lab.root, 'programs')
  await mkdir(programs)
  for (const name of await readdir('/usr/bin'))
    if (!/^(node|nodejs|npm|npx)$/.test(name)) await symlink(`/usr/bin/${name}`, join(programs, name))
  const user = join(lab.root, 'user')
  await mkdir(user)
  await chmod(user, 0o755)
  const isRoot = process.getuid?.() === 0
  if (isRoot) await chown(user, nobody, nobody)
  const as = isRoot ? ['/usr/bin/setpriv', `--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'] : []
  const env = { PATH: programs, HOME: user, BATCHMESH_DATA: join(user, 'data'), XDG_RUNTIME_DIR: undefined }
  const batchmesh = (...words: string[]) => run([...as, join(home, 'bin/batchmesh'), ...words], env)

  const version = await batchmesh('version')
  expect(version, version.stderr).toMatchObject({ code: 0, stdout: expect.stringMatching(/^batchmesh: \d+\.\d+\.\d+\n/) })
  const up = await batchmesh('up', '--detach', '--port', '0', '--listen', '127.0.0.1', '--no-mdns')
  expect(up, up.stderr).toMatchObject({ code: 0 })
  const ran = await batchmesh('run', 'echo "$((6 * 7)) by $(id -u)"')
  expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: `42 by ${isRoot ? nobody : process.getuid?.()}\n` })
  expect(await batchmesh('down')).toMatchObject({ code: 0 })
})
