/**
 * The shell text of a member of a gang. One run of a lane is the member's whole life: all that it starts ends with it.
 *
 *   coordination command --> ready --> orders --> go: the task's command line, whose exit code is the whole's (primary)
 *                                        |    --> until it is killed (subtasks)
 *                                        +--> launch, kill: programs beside it
 *
 * Descriptor 3 brings the node's orders, 4 takes the answers, a line each; no program of the task has either. What the shell
 * itself calls its own begins with `bm_`: a task's variables are exported, and a shell would hand on what it changes. Pure.
 */
import { quoteWord } from '../../protocols/model/command-line.ts'
import { partEnvironment, startFailure, sweepText } from '../executors/script.ts'

/** Names the programs of one launch, in their environment: those that left their process group are found by it. */
export const launchMarker = 'BATCHMESH_LAUNCH'

export interface MemberSetup {
  /** A directory of the member's own, where the texts of launches lie. */
  dir: string
  /** What {@link launchMarker} begins with: unlike that of any other member. */
  mark: string
  /** Where a link to the task directory is to be, if anywhere. */
  link?: { path: string; to: string } | undefined
  /** Words of the coordination command; none: there is none. */
  coordination: readonly string[]
  /** Words of the task's command line, and the files for what it says. */
  command: readonly string[]
  stdoutPath: string
  stderrPath: string
  /** Where programs of the system are. */
  systemPath: string
}

export type Order = { launch: number } | { kill: number; pid: number } | 'go'

export type Answer = { ready: true } | { started: number; pid: number } | { ended: number; exitCode: number } | { killed: number }

/** Longest answer, with its line's end. */
export const maxAnswerBytes = 64

/** Words to execute for a member's whole life. */
export function memberCommand(setup: MemberSetup): string[] {
  const { dir, link, coordination, command, stdoutPath, stderrPath } = setup
  const text = script(setup)
  const places = [dir, link?.path ?? '', link?.to ?? '', stdoutPath, stderrPath, String(coordination.length)]
  return ['/bin/sh', '-c', text, 'batchmesh-member', ...places, ...coordination, ...command]
}

function script({ mark, systemPath }: MemberSetup): string {
  const path = quoteWord(systemPath)
  return `${startFailure}unset OLDPWD PWD SHLVL
bm_dir=$1 bm_link=$2 bm_to=$3 bm_out=$4 bm_err=$5 bm_count=$6
shift 6
[ -z "$bm_link" ] || (PATH=${path}; ln -sfn "$bm_to" "$bm_link") || exit 126
${launch(quoteWord(mark), path)}
${kill(mark, path)}
bm_orders() {
while read -r bm_order bm_n bm_pid <&3; do
case $bm_order in
launch) bm_launch "$bm_n" ;;
kill) bm_kill "$bm_n" "$bm_pid" ;;
go) return ;;
esac
done
exit 1
}
if [ "$bm_count" -gt 0 ]; then
(trap m 0; bm_i=0
for bm_w do
bm_i=$((bm_i+1)); [ $bm_i -gt 1 ] || set --
[ $bm_i -gt "$bm_count" ] || set -- "$@" "$bm_w"
done
exec "$@") </dev/null 3<&- 4>&- || exit
fi
shift "$bm_count"
echo ready >&4
bm_orders
bm_orders </dev/null &
(trap m 0; exec "$@") </dev/null >"$bm_out" 2>"$bm_err" 3<&- 4>&-
exit
`
}

/**
 * A launch is a process group of its own where there is setsid. A shell ignores SIGINT and SIGQUIT in what it starts in the
 * background, and programs would inherit that.
 */
function launch(mark: string, path: string): string {
  return `bm_launch() {
[ -n "$bm_via" ] || bm_via=$(PATH=${path}
env --default-signal=INT,QUIT true 2>/dev/null && echo "$(command -v env) --default-signal=INT,QUIT"
command -v setsid)
(${launchMarker}=${mark}.$1. $bm_via /bin/sh "$bm_dir/$1.sh" </dev/null 4>&- &
echo "started $1 $!" >&4
wait $!
echo "ended $1 $?" >&4) 3<&- &
}`
}

/** A launch that has just been forked has no group and no mark yet: it is its process alone. */
function kill(mark: string, path: string): string {
  return `bm_kill() {
(exec 2>/dev/null; PATH=${path}
kill -9 "-$2" "$2"
${sweepText({ file: 'environ', text: `${launchMarker}=${mark}.` }, '"$1".')})
echo "killed $1" >&4
}`
}

/** A line for descriptor 3. */
export function orderLine(order: Order): string {
  if (order === 'go') return 'go\n'
  return 'launch' in order ? `launch ${order.launch}\n` : `kill ${order.kill} ${order.pid}\n`
}

/** What a line of descriptor 4 says; undefined for what a member's shell never says: a task can write there, too. */
export function readAnswer(line: string): Answer | undefined {
  const [, word, n, value] = /^(ready|started|ended|killed)(?: (\d{1,9}))?(?: (\d{1,9}))?$/.exec(line) ?? []
  if (word === 'ready' && n === undefined) return { ready: true }
  if (word === 'started' && value !== undefined) return { started: Number(n), pid: Number(value) }
  if (word === 'ended' && value !== undefined) return { ended: Number(n), exitCode: Number(value) & 0xff }
  if (word === 'killed' && n !== undefined && value === undefined) return { killed: Number(n) }
  return undefined
}

export interface LaunchText {
  text: string
  env: Readonly<Record<string, string>>
  cwd: string
  stdoutPath: string
  stderrPath: string
}

/** The file that a launch executes. Throws TypeError on a NUL. */
export function launchScript({ text, env, cwd, stdoutPath, stderrPath }: LaunchText): string {
  const { plain, odd } = partEnvironment(Object.entries(env))
  const exported = plain.length === 0 ? '' : `export ${plain.map(([name, value]) => `${name}=${quoteWord(value)}`).join(' ')}\n`
  const start = `cd ${quoteWord(cwd)} || exit 126\nexec >${quoteWord(stdoutPath)} 2>${quoteWord(stderrPath)} || exit 126\nunset OLDPWD PWD SHLVL\n${exported}`
  const whole =
    odd.length === 0 ? `${start}${text}\n` : `${start}exec env -- ${odd.map(quoteWord).join(' ')} /bin/sh -c ${quoteWord(text)}\n`
  if (whole.includes('\0')) throw new TypeError('A program to launch, its files and its environment cannot hold a NUL.')
  return whole
}
