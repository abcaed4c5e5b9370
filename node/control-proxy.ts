/** Control conversations of the owner's programs, passed on to the coordinator frame by frame: this machine needs not understand them. */
import { controlProtocol } from '../protocols/control.ts'
import { MeshError } from '../protocols/errors.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import { isRemoval } from '../protocols/membership.ts'
import type { Channel, Wire } from '../protocols/wire.ts'

/** Opens the way to the coordinator; what it answers joins a program's channel to it. Rejects with NoCoordinator when there is no way,
 * AuthenticationFailed when this machine was revoked. */
export async function openControl(wire: Wire, coordinator: PeerIdText): Promise<(channel: Channel) => void> {
  let far: Channel
  try {
    far = await wire.open(coordinator, controlProtocol)
  } catch (error) {
    if (error instanceof MeshError && error.code === 'InsufficientPermissions') {
      throw new MeshError(
        'InsufficientPermissions',
        'This machine joined without the role submitter: it lends capacity but may not submit. Join with another invitation to change that.',
        { cause: error },
      )
    }
    if (isRemoval(error)) {
      throw new MeshError('AuthenticationFailed', 'This machine was removed from the mesh. Leave it with: batchmesh leave', {
        cause: error,
      })
    }
    const refused = error instanceof MeshError && error.code === 'AuthenticationFailed' ? ` It says: ${error.message}` : ''
    throw new MeshError(
      'NoCoordinator',
      refused === ''
        ? 'The coordinator of the mesh cannot be reached now; running tasks go on. Is the machine that founded the mesh up?'
        : `The coordinator of the mesh does not take this machine as a member now; running tasks go on.${refused}`,
      { cause: error },
    )
  }
  return (near) => {
    pass(near, far)
    pass(far, near)
  }
}

/** Frames of one side go to the other, no faster than that takes them; the end of one is the end of the other. */
function pass(from: Channel, to: Channel): void {
  from.receive((frame) => {
    if (to.send(frame)) return
    from.pause()
    to.drained().then(
      () => from.resume(),
      () => from.close(),
    )
  })
  void from.closed.then((reason) => to.close(reason === 'local' ? 'remote' : reason))
}
