/** What a failed program leaves to say: why its exit code, and the end of its stderr.txt. */
import { closeSync, constants, fstatSync, openSync, readSync, realpathSync, statSync } from 'node:fs'
import { isAbsolute, join, resolve } from 'node:path'
import type { FailureInfo } from '../protocols/model/task.ts'

const notExecutable = 126
const notFound = 127

/** The failure behind a nonzero exit code. 126 and 127 are also a shell's words for what it was told to run: that is the program's own failure. */
export function explainExit(exitCode: number, program: string, wd: string, path: string): FailureInfo {
  const shown = JSON.stringify(program)
  if (exitCode === notFound && locate(program, wd, path) === undefined)
    return {
      category: 'usererror',
      code: 'CommandProgramNotFound',
      message: `The program ${shown} does not exist on this machine. Install it, name it with its path, or send it as a resource file.`,
    }
  if (exitCode === notExecutable && !isProgram(locate(program, wd, path)))
    return {
      category: 'usererror',
      code: 'CommandLaunchFailed',
      message: `The program ${shown} cannot be executed on this machine: it is no program, or its file mode does not allow it (resource files: fileMode 0755).`,
    }
  const signal = exitCode > 128 && exitCode <= 128 + 64 ? ` (ended by signal ${exitCode - 128})` : ''
  return { category: 'usererror', code: 'FailureExitCode', message: `The program ended with exit code ${exitCode}${signal}.` }
}

/** Where the words of a command line lead; a name without a slash is looked for along PATH. */
function locate(program: string, wd: string, path: string): string | undefined {
  const candidates = program.includes('/')
    ? [isAbsolute(program) ? program : resolve(wd, program)]
    : path.split(':').map((directory) => join(resolve(wd, directory), program))
  return candidates.find(isFile)
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** Whether a system would execute the file: some execute bit, and a binary or a script by its first bytes. */
function isProgram(file: string | undefined): boolean {
  if (file === undefined) return false
  try {
    if ((statSync(file).mode & 0o111) === 0) return false
    const head = readRange(realpathSync(file), 0, 4)
    return head.subarray(0, 2).toString('latin1') === '#!' || head.equals(Buffer.from('\x7fELF', 'latin1')) || isMachO(head)
  } catch {
    return false
  }
}

function isMachO(head: Buffer): boolean {
  return ['feedfacf', 'cffaedfe', 'cafebabe'].includes(head.toString('hex'))
}

/** The last bytes of a file as text, or undefined when there are none. A link or special file that the task put there is not followed. */
export function readTail(file: string, maxBytes: number): string | undefined {
  try {
    const bytes = readRange(file, -maxBytes, maxBytes)
    // A character that the cut has halved is left out.
    let from = 0
    if (bytes.length === maxBytes) while (from < 4 && (bytes[from]! & 0xc0) === 0x80) from += 1
    const text = new TextDecoder().decode(bytes.subarray(from))
    return text === '' ? undefined : text
  } catch {
    return undefined
  }
}

/** Reads from `offset`, or from so far before the end when it is negative. */
function readRange(file: string, offset: number, maxBytes: number): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) return Buffer.alloc(0)
    const from = offset < 0 ? Math.max(0, stat.size + offset) : offset
    const buffer = Buffer.alloc(maxBytes)
    return buffer.subarray(0, readSync(fd, buffer, 0, maxBytes, from))
  } finally {
    closeSync(fd)
  }
}
