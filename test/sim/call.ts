/** A worker's calls: given up after a while. One that may be repeated is, sometimes, as if its answer had been lost. */
import type { Calls, SimCoordinator } from './coordinator.ts'
import type { Connection } from './network.ts'
import type { Process, World } from './world.ts'

export interface Caller {
  world: World
  process: Process
  coordinator: SimCoordinator
  /** Whether the worker still uses the connection. */
  isCurrent: (connection: Connection) => boolean
}

/** `done` gets undefined when there was no answer in time, and nothing when the connection has ended. */
export function call<K extends keyof Calls>(
  { world, process, coordinator, isCurrent }: Caller,
  connection: Connection,
  kind: K,
  body: Calls[K]['body'],
  timeoutMs: number,
  done: (answer: Calls[K]['answer'] | undefined) => void,
): void {
  let current = 0
  const send = (attempt: number) => {
    connection.send('up', () =>
      coordinator.call(connection, kind, body, (answer) => {
        if (current !== attempt) return
        current = -1
        done(answer)
      }),
    )
  }
  send(0)
  if (kind !== 'hello' && world.fault('double', 0.05)) {
    // As if the first had not been answered in time: its answer counts no more.
    process.later(world.between(0, 300), () => {
      if (current !== 0 || !isCurrent(connection)) return
      current = 1
      send(1)
    })
  }
  process.later(timeoutMs, () => {
    if (current < 0) return
    current = -1
    if (isCurrent(connection)) done(undefined)
  })
}
