/** What the command line touches outside itself, so that tests can run it whole inside one process. */
import { createInterface } from 'node:readline/promises'
import type { OpenChannel } from '../mesh/sessions.ts'

export interface Output {
  readonly isTTY: boolean
  readonly columns: number
  /** Resolves when the text has been taken; a reader that went away is no error. */
  write(text: string | Uint8Array): Promise<void>
}

/** Only the first comes from somebody who can be asked: SIGHUP means that the terminal is gone. */
const interrupts = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
export type Interrupt = (typeof interrupts)[number]

export interface World {
  stdout: Output
  stderr: Output
  stdin: AsyncIterable<Uint8Array>
  /** Whether somebody can be asked. */
  interactive: boolean
  env: Record<string, string | undefined>
  cwd: string
  /** Calls back at Ctrl-C, SIGTERM or SIGHUP instead of ending, until the returned function is called. */
  onInterrupt(handler: (signal: Interrupt) => void): () => void
  /** Ends this process at once, whatever it is doing. */
  exit(code: number): void
  /** Asks on the terminal; `signal` withdraws the question. */
  ask(question: string, signal: AbortSignal): Promise<string>
  /** How to reach the node; its control socket by default. */
  open?: OpenChannel
}

function output(stream: NodeJS.WriteStream): Output {
  let gone = false
  stream.on('error', () => {
    gone = true
  })
  return {
    isTTY: stream.isTTY ?? false,
    get columns() {
      return stream.columns ?? 80
    },
    write: (text) =>
      new Promise((resolve) => {
        if (gone) resolve()
        else stream.write(text, () => resolve())
      }),
  }
}

/** The process that runs. */
export function processWorld(): World {
  return {
    stdout: output(process.stdout),
    stderr: output(process.stderr),
    stdin: process.stdin,
    interactive: process.stdin.isTTY === true && process.stderr.isTTY === true,
    env: process.env,
    cwd: process.cwd(),
    onInterrupt(handler) {
      for (const signal of interrupts) process.on(signal, handler)
      return () => {
        for (const signal of interrupts) process.off(signal, handler)
      }
    },
    exit: (code) => process.exit(code),
    async ask(question, signal) {
      const terminal = createInterface({ input: process.stdin, output: process.stderr })
      // readline turns Ctrl-C into its own event; the process must go on hearing it.
      terminal.on('SIGINT', () => process.emit('SIGINT', 'SIGINT'))
      try {
        return await terminal.question(question, { signal })
      } finally {
        terminal.close()
      }
    },
  }
}
