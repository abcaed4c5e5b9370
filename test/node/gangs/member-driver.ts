/**
 * A program that stands for a node: it takes a member of a gang through its life on a real lane, and prints what came of
 * it. The tests of the member program start it, as another user if need be.
 *
 *     member-driver.ts <tier> <root> <tag> probe|live
 */
import { existsSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MemberProgram, type ProgramSetup } from '../../../node/gangs/member-program.ts'
import type { Ended, Lane } from '../../../node/ports.ts'
import { isolationTierSchema } from '../../../protocols/model/machine.ts'
import { processesOf, TaskLab, untilCount, wildCount, wildScript, wildTag } from '../task-lab.ts'

const [tier, root, , mode] = process.argv.slice(2)
const lab = await TaskLab.open({ tier: isolationTierSchema.parse(tier), root: root! })
if (mode === 'probe') {
  await lab.close()
  process.exit(0)
}
const systemPath = '/usr/local/bin:/usr/bin:/bin'
const never = new AbortController().signal
let members = 0

interface Place {
  lane: Lane
  setup: ProgramSetup
  read: (name: string) => string
}

async function place(coordination: string | undefined, command: string): Promise<Place> {
  const lane = await lab.lane()
  members += 1
  const attempt = { jobUid: 1, task: `m${members}`, epoch: 1 }
  const paths = lab.directories.make(attempt, 'job-of-1', lane.owner)
  const sh = (script: string) => ['sh', '-c', script]
  const sharedLink = lane.temporaryDir === undefined ? undefined : '/tmp/shared-by-the-gang'
  const setup: ProgramSetup = {
    lane,
    dir: lab.directories.makeOwn(1, 'job-of-1', attempt.task, lane.owner),
    paths,
    mark: `${process.pid}.${members}`,
    sharedLink,
    coordination: coordination === undefined ? undefined : sh(coordination),
    command: sh(command),
    env: { PATH: systemPath, 'odd.name': 'odd value', PS4: 'x', SHARED: sharedLink ?? paths.taskDir },
    stdoutPath: join(paths.taskDir, 'coordination-stdout.txt'),
    stderrPath: join(paths.taskDir, 'coordination-stderr.txt'),
  }
  const read = (name: string) => {
    const file = join(paths.taskDir, name)
    return existsSync(file) ? readFileSync(file, 'utf8') : 'none'
  }
  return { lane, setup, read }
}

const start = ({ setup }: Place, signal = never) => MemberProgram.start(setup, signal, () => {})
const summary = ({ exitCode, killed }: Ended) => ({ exitCode, killed })
const results: Record<string, unknown> = {}

{
  // The whole life: a service that the coordination left is there for the command line, and gone with it.
  const tag = wildTag()
  const at = await place(
    `mkfifo ask; (read -r line <ask; echo "served $line" >answer; sleep ${tag}) & echo coordinated`,
    `echo hello >ask; until [ -s answer ]; do sleep 0.01; done; cat answer; env | grep -c '^bm_'; printenv PS4; readlink /proc/$$/fd/3 /proc/$$/fd/4; cat $SHARED/coordination-stdout.txt; echo oops >&2; exit 7`,
  )
  const program = await start(at)
  await program.ready
  results.beforeGo = at.read('stdout.txt')
  program.go()
  results.whole = {
    ...summary(await program.ended),
    stdout: at.read('stdout.txt'),
    stderr: at.read('stderr.txt'),
    coordination: at.read('coordination-stdout.txt'),
    left: processesOf(tag).length,
  }
}
{
  const at = await place('echo no >&2; exit 5', 'true')
  const program = await start(at)
  const isReady = await Promise.race([program.ready.then(() => true), program.ended.then(() => false)])
  results.failing = { ...summary(await program.ended), isReady, stderr: at.read('coordination-stderr.txt'), stdout: at.read('stdout.txt') }
}
{
  const missing = await place(undefined, 'true')
  const program = await start({ ...missing, setup: { ...missing.setup, command: ['no-such-program'] } })
  await program.ready
  program.go()
  results.missing = { ...summary(await program.ended), stderr: missing.read('stderr.txt') }
  const unknown = await place(undefined, 'true')
  const coordinating = await start({ ...unknown, setup: { ...unknown.setup, coordination: ['/'] } })
  results.unknown = { ...summary(await coordinating.ended), stderr: unknown.read('coordination-stderr.txt') }
}
{
  // Several at once, each with its own files; one of them is wild, and killed.
  const tag = wildTag()
  const at = await place('sleep 7201 &', `until [ -e done ]; do sleep 0.01; done`)
  const { paths } = at.setup
  const program = await start(at)
  await program.ready
  program.go()
  const files = (name: string) => ({ stdoutPath: join(paths.taskDir, `${name}.out`), stderrPath: join(paths.taskDir, `${name}.err`) })
  const launched = [1, 2, 3].map((n) =>
    program.launch(
      { text: `echo "$who $0"; pwd; trap - INT; kill -INT $$; exit ${n}`, env: { who: `it's ${n}` }, ...files(`l${n}`) },
      never,
    ),
  )
  results.launched = await Promise.all(launched)
  results.launchedOut = at.read('l2.out').replace(paths.taskDir, 'TASK').replace(at.setup.dir, 'OWN')
  results.oddly = await program.launch({ text: 'exit 4', env: { 'a.b': 'c' }, ...files('odd') }, never)
  results.oddlyOut = at.read('odd.out')
  const stop = new AbortController()
  const wild = program.launch({ text: wildScript(tag, 'wait'), env: {}, ...files('wild') }, stop.signal)
  const neighbour = program.launch({ text: 'until [ -e near ]; do sleep 0.01; done; exit 6', env: {}, ...files('neighbour') }, never)
  await untilCount(tag, wildCount)
  stop.abort()
  results.wild = await wild
  // One of five has wiped its environment and left its group: it goes with the member.
  results.wildLeft = processesOf(tag).length
  const aborted = new AbortController()
  const early = program.launch({ text: 'sleep 7202', env: {}, ...files('early') }, aborted.signal).catch((error: Error) => error.name)
  aborted.abort()
  results.early = await early
  writeFileSync(join(paths.wd, 'near'), '')
  results.neighbour = await neighbour
  writeFileSync(join(paths.wd, 'done'), '')
  results.launchEnd = summary(await program.ended)
  results.launchLeft = processesOf(tag).length
  results.late = await program.launch({ text: 'true', env: {}, ...files('late') }, never).catch((error: Error) => error.message)
}
{
  // Ended from outside, with what it launched.
  const tag = wildTag()
  const stop = new AbortController()
  const at = await place(wildScript(tag, 'true'), 'true')
  const program = await start(at, stop.signal)
  await program.ready
  await untilCount(tag, wildCount)
  const { taskDir } = at.setup.paths
  const launched = program
    .launch({ text: 'sleep 7203', env: {}, stdoutPath: `${taskDir}/o`, stderrPath: `${taskDir}/e` }, never)
    .catch((error: Error) => error.message)
  stop.abort()
  results.stopped = {
    ...summary(await program.ended),
    launched: await launched,
  }
  results.stoppedLeft = processesOf(tag).length
  for (const pid of processesOf(tag)) process.kill(pid, 'SIGKILL')
}
{
  // S1: what a task puts in the way of a launch's text is not followed; what it says on the pipe is not believed.
  const at = await place(
    'echo "ended 1 0" >/proc/$PPID/fd/4; i=0; while [ $i -lt 500 ]; do printf xxxxxxxx >/proc/$PPID/fd/4; i=$((i+1)); done; echo >/proc/$PPID/fd/4',
    'true',
  )
  const { dir, paths } = at.setup
  const program = await start(at)
  await program.ready
  const target = join(lab.root, 'private', 'written')
  symlinkSync(target, join(dir, '1.sh'))
  const files = { stdoutPath: join(paths.taskDir, 'o'), stderrPath: join(paths.taskDir, 'e') }
  results.linked = await program.launch({ text: 'true', env: {}, ...files }, never).catch((error: NodeJS.ErrnoException) => error.code)
  results.followed = existsSync(target)
  results.afterwards = await program.launch({ text: 'exit 3', env: {}, ...files }, never)
  program.go()
  results.noisy = summary(await program.ended)
}
// The lane is as before.
const lane = await lab.lane()
results.after = (await lab.sh(lane, 'exit 3')).exitCode
console.log(JSON.stringify(results))
await lab.close()
