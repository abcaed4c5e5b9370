/** One command line in a directory of its own, against a fake mesh. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { runCli } from '../../src/cli/cli.ts'
import type { Interrupt, Output, World } from '../../src/cli/world.ts'
import { FakeMesh } from './fake-mesh.ts'

export interface Ran {
  code: number
  stdout: string
  stderr: string
}

export class Lab {
  readonly cwd = mkdtempSync(join(tmpdir(), 'batchmesh-cli-'))
  readonly mesh = new FakeMesh()
  /** What the user answers when asked; the questions that were asked. */
  answer: (question: string) => string = () => ''
  readonly questions: string[] = []
  interactive = false
  stdin = ''
  env: Record<string, string> = { BATCHMESH_DATA: '/nowhere/data', BATCHMESH_CONFIG: '', NO_COLOR: '1' }
  readonly #interrupts = new Set<(signal: Interrupt) => void>()

  close(): void {
    this.mesh.close()
    rmSync(this.cwd, { recursive: true, force: true })
  }

  files(files: Record<string, string>): void {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(this.cwd, path)), { recursive: true })
      writeFileSync(join(this.cwd, path), text)
    }
  }

  read(path: string): string {
    return readFileSync(join(this.cwd, path), 'utf8')
  }

  list(path: string): string[] {
    return readdirSync(join(this.cwd, path), { recursive: true, encoding: 'utf8' }).sort()
  }

  interrupt(signal: Interrupt = 'SIGINT'): void {
    for (const handler of this.#interrupts) handler(signal)
  }

  async run(...argv: string[]): Promise<Ran> {
    const [stdout, stderr] = [collector(), collector()]
    const { stdin } = this
    const world: World = {
      stdout: stdout.output,
      stderr: stderr.output,
      stdin: (async function* () {
        yield Buffer.from(stdin)
      })(),
      interactive: this.interactive,
      env: this.env,
      cwd: this.cwd,
      onInterrupt: (handler) => {
        this.#interrupts.add(handler)
        return () => this.#interrupts.delete(handler)
      },
      exit: (code) => {
        throw new Error(`exit ${code}`)
      },
      ask: async (question) => {
        this.questions.push(question)
        return this.answer(question)
      },
      open: this.mesh.open,
    }
    const code = await runCli(argv, world)
    return { code, stdout: stdout.text(), stderr: stderr.text() }
  }
}

function collector(): { output: Output; text: () => string } {
  const pieces: Buffer[] = []
  const output: Output = {
    isTTY: false,
    columns: 80,
    write: async (text) => {
      pieces.push(Buffer.from(text as string))
    },
  }
  return { output, text: () => Buffer.concat(pieces).toString() }
}
