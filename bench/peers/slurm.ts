/** Slurm: a controller and one node with two processors on this machine; the tasks of a round are one job array. */
import { mkdir, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { Missing } from './missing.ts'
import type { Peer } from './peer.ts'
import { freePort, type Place, program } from './place.ts'

/** Settings that make it as quick as it gets: no pause between passes, no accounting, no containment. */
async function configure(place: Place, ports: { controller: number; node: number }, munge: string): Promise<string> {
  const host = hostname().split('.')[0]
  const path = place.path('slurm.conf')
  const lines = [
    'ClusterName=bench',
    `SlurmctldHost=${host}(127.0.0.1)`,
    `SlurmctldPort=${ports.controller}`,
    `SlurmdPort=${ports.node}`,
    'CommunicationParameters=NoCtldInAddrAny,NoInAddrAny',
    'AuthType=auth/munge',
    `AuthInfo=socket=${munge}`,
    'CredType=cred/munge',
    'SlurmUser=root',
    'SlurmdUser=root',
    `StateSaveLocation=${place.path('state')}`,
    `SlurmdSpoolDir=${place.path('spool')}`,
    `SlurmctldPidFile=${place.path('slurmctld.pid')}`,
    `SlurmdPidFile=${place.path('slurmd.pid')}`,
    `SlurmctldLogFile=${place.path('slurmctld.out')}`,
    `SlurmdLogFile=${place.path('slurmd.out')}`,
    'ProctrackType=proctrack/linuxproc',
    'TaskPlugin=task/none',
    'JobAcctGatherType=jobacct_gather/none',
    'AccountingStorageType=accounting_storage/none',
    'MpiDefault=none',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_CPU',
    'SchedulerType=sched/builtin',
    'SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,default_queue_depth=100',
    'MaxArraySize=20001',
    'MaxJobCount=50000',
    'MinJobAge=2',
    'ReturnToService=2',
    `NodeName=bench NodeHostname=${host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN`,
    'PartitionName=all Nodes=bench Default=YES MaxTime=INFINITE State=UP',
  ]
  await writeFile(path, `${lines.join('\n')}\n`)
  return path
}

export const slurm: Peer = {
  name: 'Slurm, job array',
  kind: 'command',
  tasks: 200,
  durable: 'queue; state written some seconds later',
  lostWithServer: 'jobs of the last seconds',
  start: async (place) => {
    if (process.getuid?.() !== 0) throw new Missing('slurmd needs root')
    const [controller, node, munged] = [program('slurmctld', 'slurm-wlm'), program('slurmd', 'slurm-wlm'), program('munged', 'munge')]
    const [sbatch, squeue] = [program('sbatch', 'slurm-wlm'), program('squeue', 'slurm-wlm')]
    for (const dir of ['state', 'spool', 'munge']) await mkdir(place.path(dir), { mode: 0o755 })
    await writeFile(place.path('munge/key'), Buffer.alloc(128, 7), { mode: 0o600 })
    const socket = place.path('munge/socket')
    const at = (name: string) => place.path(`munge/${name}`)
    const files = [`--key-file=${at('key')}`, `--pid-file=${at('pid')}`, `--seed-file=${at('seed')}`, `--log-file=${at('log')}`]
    const munge = await place.server('munged', [munged, '--foreground', '--force', `--socket=${socket}`, ...files])
    await place.until('munged', munge, () => succeeds(place, ['munge', `--socket=${socket}`, '-n']))
    const conf = await configure(place, { controller: await freePort(), node: await freePort() }, socket)
    const env = { ...process.env, SLURM_CONF: conf }
    const slurmctld = await place.server('slurmctld', [controller, '-D', '-f', conf], { env })
    const slurmd = await place.server('slurmd', [node, '-D', '-f', conf, '-N', 'bench'], { env })
    const sinfo = program('sinfo', 'slurm-wlm')
    const isIdle = async () => /idle/.test(await place.run([sinfo, '-h', '-o', '%T'], { env }).catch(() => ''))
    await place.until('slurmctld', slurmctld, isIdle)
    await place.until('slurmd', slurmd, isIdle)
    return {
      run: async (tasks) => {
        const words = ['--parsable', `--array=1-${tasks}`, '-n1', '-c1', '--output=/dev/null', '--wrap=/bin/true']
        const id = (await place.run([sbatch, ...words], { env })).trim()
        while ((await place.run([squeue, '-h', '-j', id, '-t', 'PD,R,CF,CG'], { env }).catch(() => '')).trim() !== '') await pause(200)
      },
    }
  },
}

async function succeeds(place: Place, words: readonly string[]): Promise<boolean> {
  return place.run(words).then(
    () => true,
    () => false,
  )
}
