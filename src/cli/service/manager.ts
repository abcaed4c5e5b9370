/** The service managers: where a service is written down for one, whether it runs, and what it is told. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { MeshError } from '../../../protocols/errors.ts'
import { dataDirectory } from '../../config.ts'
import { which } from '../doctor/system.ts'
import { launchdPlist, type ServiceFacts, serviceName, systemdUnit } from './unit.ts'

type Env = Record<string, string | undefined>

export interface Manager {
  /** The service's name with this manager. */
  name: string
  /** The file that describes it. */
  path: string
  text: (facts: ServiceFacts) => string
  /** Whether it runs on this machine, so that it can be told something. */
  runs: boolean
  /** Commands that start it now and at each boot, in order. */
  enable: string[][]
  /** Commands that stop it for good; told before the file is removed. */
  disable: string[][]
  /** Told when the file is gone. */
  forget: string[][]
  /** Where its log is read. */
  log: string
  /** What somebody should know besides. */
  note?: string
}

/** The manager of this machine for a node's data directory. Throws InvalidPropertyValue where there is none that Batchmesh knows. */
export function managerOf(dataDir: string, user: boolean, env: Env, platform: NodeJS.Platform = process.platform): Manager {
  const isDefault = dataDir === dataDirectory(undefined, { ...env, BATCHMESH_DATA: undefined })
  const name = serviceName(dataDir, isDefault)
  const home = env.HOME ?? homedir()
  if (platform === 'linux') return systemd(name, user, env, home)
  if (platform === 'darwin') return launchd(name, user, home)
  throw new MeshError(
    'InvalidPropertyValue',
    `Services are made for systemd (Linux) and launchd (macOS); this is ${platform}. Start the node by other means: batchmesh up --detach`,
  )
}

function systemd(name: string, user: boolean, env: Env, home: string): Manager {
  const unit = `${name}.service`
  const systemctl = ['systemctl', ...(user ? ['--user'] : [])]
  const userPlace = join(env.XDG_CONFIG_HOME ?? join(home, '.config'), 'systemd/user')
  const isThere = user
    ? env.XDG_RUNTIME_DIR !== undefined && existsSync(join(env.XDG_RUNTIME_DIR, 'systemd'))
    : existsSync('/run/systemd/system')
  return {
    name: unit,
    path: join(user ? userPlace : '/etc/systemd/system', unit),
    text: systemdUnit,
    runs: isThere && which('systemctl', env.PATH) !== undefined,
    enable: [
      [...systemctl, 'daemon-reload'],
      [...systemctl, 'enable', unit],
      // It may run with what an earlier unit said.
      [...systemctl, 'restart', unit],
    ],
    disable: [[...systemctl, 'disable', '--now', unit]],
    forget: [[...systemctl, 'daemon-reload']],
    log: `journalctl ${user ? '--user ' : ''}-u ${name}`,
    note: user ? `It runs while you are logged in; to have it run always: loginctl enable-linger ${env.USER ?? ''}`.trim() : undefined,
  }
}

function launchd(name: string, user: boolean, home: string): Manager {
  const label = `${name}.node`
  const domain = user ? `gui/${process.getuid?.() ?? ''}` : 'system'
  const path = join(user ? join(home, 'Library/LaunchAgents') : '/Library/LaunchDaemons', `${label}.plist`)
  return {
    name: label,
    path,
    text: (facts) => launchdPlist({ ...facts, label }),
    runs: which('launchctl') !== undefined,
    enable: [
      ['launchctl', 'enable', `${domain}/${label}`],
      ['launchctl', 'bootstrap', domain, path],
    ],
    disable: [['launchctl', 'bootout', `${domain}/${label}`]],
    forget: [],
    log: 'DIR/log/service.log, in its data directory',
  }
}

/** A manager's command; rejects with what it said. */
export function tell(words: readonly string[], env: Env): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = execFile(words[0]!, words.slice(1), { env, encoding: 'utf8' }, (error, stdout, stderr) => {
      if (error === null) return resolve()
      const said = `${stderr}${stdout}`.trim().split('\n')[0] ?? ''
      reject(new MeshError('InternalError', `"${words.join(' ')}" failed: ${said === '' ? error.message : said}`, { cause: error }))
    })
    child.stdin?.end()
  })
}
