/**
 * Types the commands of a page into shells, one for each machine that its prompts name, and says where what comes out
 * is not what the page shows. All machines are data directories of one lab and share one working directory.
 */
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Block, blocksOf, commandsOf, type ShownCommand, typedLanguages } from '../../support/markdown.ts'
import { differences } from '../../support/shown-output.ts'
import { batchmesh, type MeshLab, type Running } from './mesh-lab.ts'
import { cores } from './work.ts'

/** The first machine, where the page's prompt is a bare `$`. */
const unnamed = 'laptop'
const commandDeadlineMs = 90_000

export class Typist {
  readonly #lab: MeshLab
  readonly #home: string
  readonly #shells = new Map<string, Shell>()

  private constructor(lab: MeshLab) {
    this.#lab = lab
    this.#home = join(lab.root, 'home')
  }

  static async create(lab: MeshLab): Promise<Typist> {
    const typist = new Typist(lab)
    await mkdir(join(lab.root, 'bin'))
    await symlink(batchmesh, join(lab.root, 'bin', 'batchmesh'))
    await symlink(process.execPath, join(lab.root, 'bin', 'node'))
    await mkdir(join(typist.#home, 'node_modules'), { recursive: true })
    await symlink(dirname(dirname(batchmesh)), join(typist.#home, 'node_modules', 'batchmesh'))
    for (const path of ['bin', 'home']) await chmod(join(lab.root, path), 0o755)
    return typist
  }

  /** Sentences on commands of the page that failed unseen, or printed something else than the page shows. */
  async follow(page: string, text: string): Promise<string[]> {
    const wrong: string[] = []
    for (const block of blocksOf(text)) wrong.push(...(await this.#take(page, block)))
    return wrong
  }

  async #take(page: string, block: Block): Promise<string[]> {
    if (block.notRun !== undefined) return []
    if (block.file !== undefined) {
      const path = join(this.#home, block.file)
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, `${block.lines.join('\n')}\n`)
    }
    if (!typedLanguages.includes(block.language)) return []
    const commands = commandsOf(block)
    const wrong: string[] = []
    for (const [at, command] of commands.entries()) {
      const { code, printed } = await (await this.#shell(command.machine ?? unnamed)).type(command.text)
      const trouble = command.output === undefined ? [] : differences(command.output, printed)
      if (code !== 0 && !isAskedFor(commands[at + 1])) trouble.push(`ended with exit code ${code}`)
      if (trouble.length > 0)
        wrong.push(`${page}:${command.line}: ${command.text}\n${trouble.join('\n')}\nprinted:\n${printed.slice(0, 2000)}`)
    }
    return wrong
  }

  async #shell(machine: string): Promise<Shell> {
    const known = this.#shells.get(machine)
    if (known !== undefined) return known
    const shell = new Shell(this.#lab, machine, this.#home, await this.#lab.port(machine))
    this.#shells.set(machine, shell)
    return shell
  }
}

/** A command may fail where the page shows its exit code next. */
function isAskedFor(next: ShownCommand | undefined): boolean {
  return next?.text === 'echo $?'
}

/** A NUL ends each command; one stands before and after the exit code in the answer. */
const loop = `
code=0
while IFS= read -r -d '' typed; do
  (exit "$code"); eval "$typed" </dev/null 2>&1
  code=$?
  printf '\\0%d\\0' "$code"
done`

class Shell {
  readonly #running: Running
  /** Directories of the lab, and what stands for them in a page. */
  readonly #shownAs: [string, string][]
  #read = 0

  constructor(lab: MeshLab, machine: string, home: string, port: number) {
    this.#shownAs = [
      [lab.dataDir(machine), '/var/lib/batchmesh'],
      [home, '/home/anna'],
    ]
    const env = {
      HOME: home,
      PATH: `${join(lab.root, 'bin')}:${process.env.PATH}`,
      XDG_CONFIG_HOME: undefined,
      XDG_DATA_HOME: undefined,
      BATCHMESH_CONFIG: '',
      BATCHMESH_DATA: lab.dataDir(machine),
      BATCHMESH_NAME: machine,
      BATCHMESH_PORT: String(port),
      BATCHMESH_LISTEN: '127.0.0.1',
      BATCHMESH_MDNS: 'false',
      BATCHMESH_LEND_CPUS: String(cores),
    }
    this.#running = lab.spawn(['bash', '--norc', '-c', loop], { cwd: home, env })
  }

  async type(text: string): Promise<{ code: number; printed: string }> {
    const { child } = this.#running
    child.stdin!.write(`${text}\0`)
    const deadline = AbortSignal.timeout(commandDeadlineMs)
    for (;;) {
      const [printed, code, rest] = this.#running.stdout().slice(this.#read).split('\0')
      if (rest !== undefined) {
        this.#read += printed!.length + code!.length + 2
        return { code: Number(code), printed: this.#shownAs.reduce((text, [path, name]) => text.replaceAll(path, name), printed!) }
      }
      await new Promise<void>((resolve, reject) => {
        const fail = () => reject(new Error(`${text}\ndid not end within ${commandDeadlineMs / 1000} s:\n${printed}`))
        deadline.addEventListener('abort', fail, { once: true })
        child.stdout!.once('data', () => {
          deadline.removeEventListener('abort', fail)
          resolve()
        })
      })
    }
  }
}
