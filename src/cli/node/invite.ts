/** `batchmesh invite` and `batchmesh revoke`. */
import type { Command } from 'commander'
import { MeshError } from '../../../protocols/errors.ts'
import { type InvitableRole, invitableRoles } from '../../../protocols/membership.ts'
import type { Mesh } from '../../mesh/client.ts'
import { type Context, given, integer, oneOf, type Register } from '../context.ts'
import { durationMs, showTime } from '../format.ts'

export const register: Register = (program, context, name) => (name === 'invite' ? invite(program, context) : revoke(program, context))

function invite(program: Command, context: Context): void {
  const command = program
    .command('invite')
    .description('Prints a token that lets other machines join. Who has it can join: pass it on in private.')
    .option('--role <roles>', `what they may do: ${invitableRoles.join(', ')}; with commas`, 'worker,submitter')
    .option('--expires <duration>', 'how long the token is good', '1d')
    .option('--uses <number>', 'how many machines may use it', '1')
    .addHelpText(
      'after',
      '\nExamples:\n  batchmesh invite --uses 20 > mesh.token        then on each machine: batchmesh up --join mesh.token\n  batchmesh invite --role worker --expires 2h',
    )
  context.action<{ role: string; expires: string; uses: string }>(command, async (options) => {
    const roles = options.role.split(',').map((role): InvitableRole => oneOf(role.trim(), '--role', invitableRoles))
    const expiresMs = durationMs(options.expires, '--expires')
    const uses = integer(options.uses, '--uses', 1, 100_000)!
    const mesh = await adminMesh(context, 'invite')
    const answer = await mesh.local.call('invite', { roles, expiresMs, uses })
    if (!context.isForPeople)
      return context.one(
        [
          ['token', answer.token],
          ['expires', new Date(answer.expires).toISOString()],
        ],
        { ...answer, roles, uses },
      )
    await context.world.stdout.write(`${answer.token}\n`)
    const many = uses === 1 ? 'for one machine' : `for ${uses} machines`
    context.say(`Good until ${showTime(answer.expires)}, ${many}. There, run: batchmesh up --join TOKEN`)
  })
}

/** Refused here, in words of this command, rather than by whichever call on its way comes first. */
async function adminMesh(context: Context, verb: 'invite' | 'revoke'): Promise<Mesh> {
  const mesh = await context.mesh()
  const { roles } = await mesh.local.call('status', {})
  if (!roles.includes('admin'))
    throw new MeshError('InsufficientPermissions', `Only machines with the role admin can ${verb} (the founder can).`)
  return mesh
}

function revoke(program: Command, context: Context): void {
  const command = program
    .command('revoke')
    .description('Withdraws a machine’s membership: it is cut off, and its tasks run elsewhere.')
    .argument('<machine>', 'name or peer id')
    .addHelpText('after', '\nExample:\n  batchmesh revoke old-laptop')
  context.action(command, async (_, [machine]) => {
    const mesh = await adminMesh(context, 'revoke')
    const wanted = given(machine, 'machine')
    const peer = await peerOf(context, wanted)
    await mesh.local.call('revoke', { peer })
    await context.done(`${wanted} is no longer a member.`, { revoked: peer })
  })
}

/** The peer id of a machine by name; a peer id that no machine has any more is taken as it is. */
async function peerOf(context: Context, machine: string): Promise<string> {
  const mesh = await context.mesh()
  const { items } = await mesh.control.call('listMachines', {})
  const found = items.filter(({ name, peer }) => peer === machine || name === machine)
  if (found.length > 1)
    throw new MeshError(
      'InvalidPropertyValue',
      `${found.length} machines are named ${machine}. Name it by its peer id: batchmesh machine list`,
    )
  if (found.length === 1) return found[0]!.peer
  if (/^(12D3Koo|Qm|16Uiu2)/.test(machine)) return machine
  throw new MeshError('MachineNotFound', `There is no machine ${machine}. See: batchmesh machine list`)
}
