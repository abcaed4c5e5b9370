/**
 * The shell text that a lane's helper executes. The helper is a plain POSIX `sh -s` that reads commands from a pipe:
 * first the prologue of its tier, then one command list a task, made here, with every word quoted. Pure.
 */
import { quoteWord } from '../../protocols/model/command-line.ts'
import type { StartRequest } from '../ports.ts'

/** Exit codes of a shell whose program could not be executed or was not found (POSIX, shell command language). */
export const notExecutable = 126
export const notFound = 127

const identifier = /^[A-Za-z_][A-Za-z0-9_]*$/

/** Names to which some shell gives a meaning or refuses values; `env` sets them instead, after the shell is gone. */
const shellOwned = new Set([
  ...['OPTIND', 'OPTARG', 'LINENO', 'PPID', 'IFS', 'PS1', 'PS2', 'PS4', 'UID', 'EUID', 'GROUPS', 'BASHOPTS', 'SHELLOPTS', 'BASH_VERSINFO'],
  ...['RANDOM', 'SECONDS', 'EPOCHSECONDS', 'EPOCHREALTIME', 'SRANDOM', 'BASHPID', 'FUNCNAME', 'DIRSTACK', 'PIPESTATUS', 'POSIXLY_CORRECT'],
  ...['PWD', 'OLDPWD', 'SHLVL', '_', 'MAIL', 'MAILPATH', 'MAILCHECK', 'HISTSIZE', 'FUNCNEST', 'BASH_COMPAT', 'BASH_XTRACEFD', 'CHILD_MAX'],
])

/** What dash does itself when it is told to run it by that name, and the functions of a prologue. */
const dashOwned = new Set([
  ...['!', '{', '}', 'case', 'do', 'done', 'elif', 'else', 'esac', 'fi', 'for', 'if', 'in', 'then', 'until', 'while', 'f', 'g', 'm'],
  ...['.', ':', '[', 'alias', 'bg', 'break', 'cd', 'chdir', 'command', 'continue', 'echo', 'eval', 'exec', 'exit', 'export', 'false'],
  ...['fc', 'fg', 'getopts', 'hash', 'histcmd', 'jobs', 'kill', 'local', 'printf', 'pwd', 'read', 'readonly', 'return', 'set', 'setvar'],
  ...['shift', 'test', 'times', 'trap', 'true', 'type', 'ulimit', 'umask', 'unalias', 'unset', 'wait'],
])

/**
 * Said in stderr.txt when the program could not be started: the shell's own line names the program, this one says what
 * was tried. An EXIT trap runs only if `exec` failed.
 */
export const startFailure = `m() { s=$?
case $s in
127) echo "batchmesh: the program was not found. It is looked up in PATH=$PATH, or from the working directory if its name has a slash." ;;
*) echo "batchmesh: the program could not be started (a missing working directory, no permission, not a program for this machine, or too long a command line)." ;;
esac >&2
exit $s
}
g() { (trap m 0; exit ${notExecutable}); }
`

/**
 * What follows each task: its status is kept, whatever it left running is killed, and only when the kernel says that
 * nothing is left (ESRCH; zombies count until reaped) is the end reported. `io` says that stdout.txt could not be made.
 */
const report = `case $s in 2) [ -e "$2" ] || s=io ;; esac
echo "$1 $s"
}
`

/** A machine that runs out of memory ends a task, never the node: higher goes first, up to 1000. Inherited by all tasks. */
const oomScore = 500

/** The last words of a prologue. What the shell itself says from then on (such as "Killed") is of no use to anyone. */
const ready = `umask 022
(exec 2>/dev/null; echo ${oomScore} >/proc/$$/oom_score_adj)
echo "ready $(readlink /proc/$$/exe 2>/dev/null)"
exec 2>/dev/null
`

/**
 * Prologue of a helper in its own pid namespace. `kill -9 -1` there reaches every process of the lane but the caller and
 * pid 1, in one step that no fork can outrun. It must never run elsewhere: the helper checks that its namespace is not
 * the node's own and that its pid is as small as only a fresh namespace has.
 */
export function containedPrologue(nodePidNamespace: string): string {
  return `${startFailure}ns=$(readlink /proc/self/ns/pid)
[ -n "$ns" ] && [ "$ns" != ${quoteWord(nodePidNamespace)} ] && [ "$$" -gt 1 ] && [ "$$" -lt 100 ] || { echo "the lane has no pid namespace of its own" >&2; exit 71; }
f() { s=$?; n=0
while kill -9 -1; do
n=$((n+1)); [ $n -lt 50 ] || sleep 0.01
done
${report}${ready}`
}

/** How processes of a lane are known where no namespace holds them: by a text in a file of theirs in /proc. */
export interface Trace {
  /** `environ` holds the environment as executed; `status` the user and groups, which no task can shed. */
  file: 'environ' | 'status'
  text: string
}

/**
 * Shell text that kills what has a trace, again and again until a scan finds nothing but this shell and the dead. `more`
 * is shell text that expands to the end of the trace's text.
 */
export function sweepText(trace: Trace, more = ''): string {
  return `while k=; for p in $(grep -lsF ${quoteWord(trace.text)}${more} /proc/[0-9]*/${trace.file}); do
p=\${p#/proc/}; p=\${p%/*}
[ "$p" = "$$" ] || case $(grep -s ^State: "/proc/$p/status") in ''|*zombie*|*dead*) ;; *) kill -9 "$p"; k=1 ;; esac
done; [ -n "$k" ]; do :; done
`
}

/** Prologue of a helper without a namespace. */
export function tracedPrologue(trace: Trace): string {
  return `${startFailure}f() { s=$?\n${sweepText(trace)}${report}${ready}`
}

/**
 * Whether dash can start the program as a simple command. It does that by vfork, which copies no page tables: half the CPU
 * of a subshell that executes the program in its place, as every other shell and every odd name needs it.
 */
export function isSimple({ argv: [program = ''], env, pipes }: StartRequest): boolean {
  if (pipes !== undefined || program.startsWith('-') || program.includes('=') || dashOwned.has(program)) return false
  return Object.keys(env).every(isAssignable)
}

function isAssignable(name: string): boolean {
  return identifier.test(name) && !shellOwned.has(name)
}

/** What a shell can export without a change, and the rest, as arguments of `env`. Throws TypeError for what is no name. */
export function partEnvironment(env: readonly (readonly [name: string, value: string])[]): { plain: [string, string][]; odd: string[] } {
  const plain: [string, string][] = []
  const odd: string[] = []
  for (const [name, value] of env) {
    if (name === '' || name.includes('='))
      throw new TypeError(`The environment variable name ${JSON.stringify(name)} is empty or has a "=".`)
    if (isAssignable(name)) plain.push([name, value])
    else odd.push(`${name}=${value}`)
  }
  return { plain, odd }
}

/** What `exec` executes as this program with these variables (`name=value`) on top. Throws TypeError for what cannot be. */
export function programWords(argv: readonly string[], odd: readonly string[]): string[] {
  const [program] = argv
  if (program === undefined || program === '') throw new TypeError('The command line has no program.')
  // `exec` could take a first word for an option, `env` for an assignment: each is kept from the one that would.
  if (program.startsWith('-') && program.includes('=')) throw new TypeError(`Write the program as a path, such as ./${program}`)
  const words = program.includes('=') ? ['nice', '-n', '0', ...argv] : argv
  return odd.length > 0 || program.startsWith('-') ? ['env', '--', ...odd, ...words] : [...words]
}

/** One task as a command list that ends in a report `<id> <status>`. Throws TypeError on a NUL, which no argument can hold. */
export function taskScript(
  id: number,
  start: StartRequest,
  how: { simple: boolean; marker?: readonly [name: string, value: string] },
): string {
  const env = Object.entries(start.env)
  const { plain, odd } = partEnvironment(how.marker === undefined ? env : [...env, how.marker])
  const assignments = plain.map(([name, value]) => `${name}=${quote(value)}`)
  const words = programWords(start.argv, odd).map(quote)
  const stdout = quote(start.stdoutPath)
  const files = `>${stdout} 2>${quote(start.stderrPath)}`
  const cwd = quote(start.cwd)
  const end = `f ${id} ${stdout}\n`
  if (how.simple)
    return `if cd ${cwd};then unset OLDPWD PWD SHLVL;${[...assignments, ...words].join(' ')} </dev/null ${files};else g ${files};fi;${end}`
  const exported = assignments.length === 0 ? '' : `export ${assignments.join(' ')};`
  const pipes = start.pipes === undefined ? '' : ` 3<${quote(start.pipes.in)} 4>${quote(start.pipes.out)}`
  return (
    `(trap m 0;cd ${cwd}||exit ${notExecutable};unset OLDPWD PWD SHLVL;${exported}exec ${words.join(' ')})` +
    ` </dev/null ${files}${pipes};${end}`
  )
}

/**
 * What follows a simple command with status 126 or 127: adds to stderr.txt what was tried, if the shell cannot have started
 * the program; else the status was the program's own.
 */
export function explainScript(id: number, start: StartRequest, status: number): string {
  const path = start.env.PATH === undefined ? '' : `PATH=${quote(start.env.PATH)};`
  const isProgram = `cd ${quote(start.cwd)}&&p=$(command -v ${quote(start.argv[0]!)})&&[ -f "$p" ]&&[ -x "$p" ]`
  const stderr = quote(start.stderrPath)
  return `(${path}${isProgram}||{ trap m 0;exit ${status}; }) 2>>${stderr};f ${id} ${stderr}\n`
}

function quote(word: string): string {
  if (word.includes('\0')) throw new TypeError(`A command line, path or environment variable cannot hold a NUL: ${JSON.stringify(word)}`)
  return quoteWord(word)
}
