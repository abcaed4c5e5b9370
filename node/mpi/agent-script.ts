/**
 * The launch agent, which mpirun calls in the place of ssh: `launch-agent [options of ssh] HOST WORDS…`. A small shell script,
 * for it must start at once and be executable for every task's user. It asks its own node through two named pipes in the
 * gang's launch directory, which the node watches. Pure.
 *
 *   agent:  HOST \n words joined by spaces \0      on NAME.in, which stays open: its end tells that the agent is gone
 *   node:   EXIT CODE \n what is to be said        on NAME.out, then its end
 *           here \n                                the host is this one: the agent runs the words itself
 *
 * Its exit code is that of the words; 255, as ssh's, when they could not be run or the member was lost.
 */
import { maxTextBytes } from '../../protocols/launch.ts'

/** Exit code of ssh for its own failures (ssh(1)), which the launchers of MPI know. */
export const agentFailed = 255

export const agentScript = `#!/bin/sh
# Batchmesh: starts a program on another member of this task's gang, in the place of ssh.
fail() { printf 'batchmesh: %s\\n' "$1" >&2; exit ${agentFailed}; }
[ -n "$BATCHMESH_LAUNCH_DIR" ] || fail 'the launch agent works only in multi-instance tasks (BATCHMESH_LAUNCH_DIR is not set).'
while :; do
case $1 in
-[lpoiFcmeEJLRDbBSWw]) shift 2 || fail 'the launch agent needs a host.' ;;
-*) shift ;;
*) break ;;
esac
done
[ $# -ge 2 ] || fail 'the launch agent needs a host and a command.'
host=\${1##*@}
shift
umask 077
me=$BATCHMESH_LAUNCH_DIR/agents/$$
mkfifo "$me.out" "$me.in" || fail "the launch agent cannot reach its node (in $BATCHMESH_LAUNCH_DIR)."
exec 3>"$me.in" 4<"$me.out"
rm -f "$me.in" "$me.out"
printf '%s\\n%s\\0' "$host" "$*" >&3
read -r code <&4 || fail "the node of this machine ended while $host was running a program."
[ "$code" != here ] || exec /bin/sh -c "$*" 3>&- 4<&-
while IFS= read -r line <&4 || [ -n "$line" ]; do printf '%s\\n' "$line" >&2; line=; done
exit "$code"
`

export interface AgentRequest {
  host: string
  text: string
}

/** A host's name is at most 255 bytes (RFC 1035); one more for the line's end, and the NUL at the end. */
export const maxRequestBytes = maxTextBytes + 257

/**
 * What an agent wrote so far, as a request; undefined while it is not whole. Throws Error with a sentence for what is no request:
 * a task's own programs can write there, too.
 */
export function readRequest(bytes: Uint8Array): AgentRequest | undefined {
  const end = bytes.indexOf(0)
  if (end < 0) {
    if (bytes.length > maxRequestBytes) throw new Error(`A program to launch is at most ${maxTextBytes} bytes of shell text.`)
    return undefined
  }
  let whole: string
  try {
    whole = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, end))
  } catch {
    throw new Error('A program to launch is shell text in UTF-8.')
  }
  const newline = whole.indexOf('\n')
  const host = whole.slice(0, Math.max(0, newline))
  const text = attached(whole.slice(newline + 1))
  if (host === '' || host.length > 255 || text.trim() === '') throw new Error('The launch agent was not called with a host and a command.')
  if (Buffer.byteLength(text) > maxTextBytes) throw new Error(`A program to launch is at most ${maxTextBytes} bytes of shell text.`)
  return { host, text }
}

/**
 * Daemons of Open MPI (`orted`, `prted`) that are told to go to the background would leave the launch, which then could not
 * say how they ended. Version 5 takes the wish to stay only on mpirun's command line.
 */
function attached(text: string): string {
  return /\b(?:orted|prted)\b/.test(text) ? text.replace(/(?<=\s)--?daemonize(?=\s|$)/g, '') : text
}

/** The member whose node or address that is: where several share an address, the first. Undefined: none. */
export function memberOf(host: string, members: readonly { nodeId: string; address: string; name: string }[]): number | undefined {
  const wanted = host.toLowerCase()
  if (wanted === 'localhost' || wanted === '127.0.0.1') return 0
  const by = (key: 'nodeId' | 'address' | 'name') => members.findIndex((member) => member[key].toLowerCase() === wanted)
  return [by('nodeId'), by('address'), by('name')].find((index) => index >= 0)
}

export function answerText(exitCode: number, said: string): string {
  return `${exitCode}\n${said}`
}

export const hereText = 'here\n'
