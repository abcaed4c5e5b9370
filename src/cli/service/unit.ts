/**
 * The description of a node as a service: a unit of systemd, a property list of launchd. Pure.
 *
 * Hardening goes as far as the work of a node allows. Tasks are its children and inherit what is set here: they are
 * programs of people, which may write where the machine lets them, load what they like, and need namespaces of their own
 * made by the node. So nothing is set that a task could feel (no read-only system, no filter of system calls), only what
 * neither a node nor a task has business with.
 */
export interface ServiceFacts {
  /** Node and the program, absolute: a service manager has no path of its user's. */
  program: readonly string[]
  /** Absolute. */
  dataDir: string
  /** For the user's own service manager, else for the system's. */
  user: boolean
  /** Absent: the default. */
  logLevel?: string
}

/** Name of the unit; each data directory but the default has its own: every character but letters, digits and dots is `_` and its code. */
export function serviceName(dataDir: string, isDefault: boolean): string {
  if (isDefault) return 'batchmesh'
  const code = (character: string) => `%${character.charCodeAt(0).toString(16)}`
  const name = (part: string) =>
    encodeURIComponent(part.toWellFormed())
      .replace(/[^A-Za-z0-9.%]/g, code)
      .replaceAll('%', '_')
  return ['batchmesh', ...dataDir.split('/').filter(Boolean).map(name)].join('-')
}

/** A word in a command line of a unit (systemd.service: quoting, and `%` and `$` stand for other things). */
export function systemdWord(text: string): string {
  const plain = text.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(plain) ? plain : `"${plain.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}

/** A systemd unit (systemd.unit, systemd.service, systemd.exec). */
export function systemdUnit({ program, dataDir, user, logLevel }: ServiceFacts): string {
  const command = (...words: string[]) => [...program, ...words, '--data', dataDir].map(systemdWord).join(' ')
  const lines = [
    '# Written by "batchmesh up --service"; "batchmesh down --service" removes it. Options of the node are kept in its data directory.',
    '[Unit]',
    'Description=Batchmesh node',
    // The user's manager has no such target; there the network is up when somebody logs in.
    ...(user ? [] : ['Wants=network-online.target', 'After=network-online.target']),
    // A node that cannot start says why in the log; it is not started for ever.
    'StartLimitIntervalSec=300',
    'StartLimitBurst=10',
    '',
    '[Service]',
    'Type=exec',
    `ExecStart=${command('up', ...(logLevel === undefined ? [] : ['--log-level', logLevel]))}`,
    'Restart=on-failure',
    'RestartSec=5',
    // The node alone is told to stop: it ends its helpers and tasks in order. What is left then is killed with the group.
    'KillMode=mixed',
    'TimeoutStopSec=60',
    // A thousand connections, open blobs, and the databases.
    'LimitNOFILE=65536',
    // A task that takes all memory is ended, not the node with every other task.
    'OOMPolicy=continue',
    // Below it the node makes groups of its own, which hold each task to its limits.
    'Delegate=yes',
    'UMask=0022',
    // The user's own manager could set these only by taking from tasks what `sudo` and bubblewrap may need. No restriction
    // of devices, which tasks with GPUs use.
    ...(user ? [] : ['ProtectKernelLogs=yes', 'ProtectHostname=yes', 'RestrictRealtime=yes', 'KeyringMode=private']),
    '',
    '[Install]',
    `WantedBy=${user ? 'default.target' : 'multi-user.target'}`,
  ]
  return `${lines.join('\n')}\n`
}

export interface LaunchdFacts extends ServiceFacts {
  label: string
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

/** A property list of launchd (launchd.plist(5)). */
export function launchdPlist({ program, dataDir, label, logLevel }: LaunchdFacts): string {
  const level = logLevel === undefined ? [] : ['--log-level', logLevel]
  const words = [...program, 'up', ...level, '--data', dataDir].map((word) => `    <string>${escaped(word)}</string>`)
  const log = `    <string>${escaped(`${dataDir}/log/service.log`)}</string>`.trim()
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>${escaped(label)}</string>
  <key>ProgramArguments</key>
  <array>
${words.join('\n')}
  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>10</integer>
  <key>ExitTimeOut</key>
  <integer>60</integer>
  <key>SoftResourceLimits</key>
  <dict>
    <key>NumberOfFiles</key>
    <integer>65536</integer>
  </dict>
  <key>StandardErrorPath</key>
  ${log}
  <key>StandardOutPath</key>
  ${log}
</dict>
</plist>
`
}
