/**
 * A program that stands for a node: it runs one wild task (task-lab.ts) and prints what came of it. The tests of kills start it, as
 * another user if need be, and kill it.
 *
 *     executor-driver.ts <tier> <root> <tag> hold|end|abort|terminate|spy|leave
 */
import { existsSync, readdirSync } from 'node:fs'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { isolationTierSchema } from '../../protocols/model/machine.ts'
import { processesOf, TaskLab, untilCount, wildCount, wildScript } from './task-lab.ts'

const [tier, root, tag = '', mode] = process.argv.slice(2)
const lab = await TaskLab.open({ tier: isolationTierSchema.parse(tier), root: root! })
const lane = await lab.lane()
const other = await lab.lane()

if (mode === 'hold') {
  console.log('holding')
  await lab.sh(lane, wildScript(tag, 'wait'))
}
if (mode === 'end') {
  // The task itself waits until the last of its processes is there.
  const { exitCode } = await lab.sh(
    lane,
    wildScript(tag, `until [ "$(pgrep -cxf 'sleep ${tag}')" -eq ${wildCount} ]; do sleep 0.01; done; exit 4`),
  )
  console.log(JSON.stringify({ exitCode, left: processesOf(tag).length }))
}
if (mode === 'abort' || mode === 'terminate') {
  const stop = new AbortController()
  const neighbour = lab.sh(other, 'sleep 0.5; exit 6')
  const running = lab.sh(lane, wildScript(tag, 'trap "echo asked; exit 5" TERM; wait'), { signal: stop.signal })
  await untilCount(tag, wildCount)
  stop.abort(mode === 'abort' ? undefined : { termMs: 30_000 })
  const { exitCode, killed, stdout } = await running
  const left = processesOf(tag).length
  const after = await lab.sh(lane, 'exit 3')
  console.log(JSON.stringify({ exitCode, killed, stdout, left, after: after.exitCode, neighbour: (await neighbour).exitCode }))
}
if (mode === 'spy') {
  // Another job's lane looks at the first job's files, the node's identity, and the pipes of lanes.
  const own = await lab.sh(lane, 'echo mine >kept; cat kept; chmod 777 . .. kept')
  const spy = await lab.lane(2)
  const { stdout } = await lab.sh(
    spy,
    `cat ${own.paths.wd}/kept ${lab.secret} ${own.paths.stdout}; ls ${lab.root}/run/lanes-*; echo done >kept; cat kept`,
    { jobUid: 2 },
  )
  // An own user namespace brings no way back either.
  const unshared = await lab.sh(spy, `unshare --user --map-root-user --mount sh -c 'umount ${lab.root}/private; cat ${lab.secret}'`, {
    jobUid: 2,
  })
  console.log(JSON.stringify({ own: own.stdout, seen: stdout, unshared: unshared.stdout }))
}
if (mode === 'leave') {
  // A job leaves files where every program does; its own next task finds them, another job's does not, nor the machine.
  const places = '/tmp /var/tmp /dev/shm'
  const each = (what: string) => `for place in ${places}; do ${what}; done`
  const left = await lab.sh(
    lane,
    `${each(`echo $place >$place/left-${tag} && chmod 666 $place/left-${tag}`)}; mkdir /tmp/shut; chmod 0 /tmp/shut`,
  )
  const own = await lab.sh(lane, each(`cat $place/left-${tag}`))
  const spy = await lab.lane(2)
  const seen = await lab.sh(spy, each(`cat $place/left-${tag}`), { jobUid: 2 })
  // Large files are on the disk; memory is bounded.
  const kinds = await lab.sh(
    spy,
    `stat -f -c %T /tmp /var/tmp /dev/shm; stat -c %a ${places}; [ $(($(stat -f -c '%b*%S' /dev/shm))) -le ${totalmem()} ] && echo bounded`,
    { jobUid: 2 },
  )
  const outside = places.split(' ').filter((place) => existsSync(join(place, `left-${tag}`)))
  const [lanes] = readdirSync(join(lab.root, 'run'))
  await lab.executor.close()
  console.log(
    JSON.stringify({
      left: left.stderr,
      own: own.stdout,
      seen: seen.stdout,
      kinds: kinds.stdout,
      outside,
      lanes: existsSync(join(lab.root, 'run', lanes!)),
    }),
  )
}
for (const pid of processesOf(tag)) process.kill(pid, 'SIGKILL')
await lab.close()
