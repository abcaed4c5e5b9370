/** A mesh for tests. */
import { rm } from 'node:fs/promises'
import { join as joinPath } from 'node:path'
import type { Log } from '../mesh/log.ts'
import { type Peer, startPeer } from './connect.ts'
import { Mesh } from './mesh.ts'
import { temporaryDirectory } from './temporary.ts'

/** How large a mesh for tests is. */
export interface TestMeshOptions {
  /** Default 1. The first is the coordinator too. */
  machines?: number
  /** Task slots of each machine, whatever cores there are; default 2. */
  slots?: number
  /** What the nodes say, each line with the name of its machine. */
  log?: (machine: string, ...line: Parameters<Log>) => void
}

/** A mesh of this process alone. The mesh itself goes through its first machine. */
export class TestMesh extends Mesh {
  /** The other machines, each with a connection of its own. Closing one is how a machine leaves. */
  readonly others: readonly Mesh[]

  /** @internal */
  constructor(first: Peer, others: readonly Mesh[], release: () => Promise<void>) {
    super(first.client, release)
    this.others = others
  }
}

/**
 * Starts a whole mesh inside the test's process, on the loopback interface, in a temporary directory: real nodes that
 * really run commands and functions. Closing it (`await using`) stops all and removes the directory.
 *
 *     await using mesh = await createTestMesh({ machines: 2, slots: 2 })
 *
 * @throws {@link MeshError} `InvalidPropertyValue` where tasks could not pass through the temporary directory
 */
export async function createTestMesh(options: TestMeshOptions = {}): Promise<TestMesh> {
  const { machines = 1, slots = 2, log } = options
  if (!Number.isInteger(machines) || machines < 1) throw new RangeError(`machines is a whole number of 1 or more, not ${machines}.`)
  if (!Number.isInteger(slots) || slots < 1) throw new RangeError(`slots is a whole number of 1 or more, not ${slots}.`)
  const root = await temporaryDirectory('mesh')
  const others: Mesh[] = []
  let first: Peer | undefined
  const release = async () => {
    // The coordinator last: it hears of each that goes.
    for (const other of others) await other.close()
    await first?.release()
    await rm(root, { recursive: true, force: true, maxRetries: 5 })
  }
  const start = (number: number, token?: string) => {
    const name = `machine-${number}`
    const own = { name, dataDir: joinPath(root, name), ...(token === undefined ? {} : { token }) }
    const tell = log === undefined ? {} : { log: (...line: Parameters<Log>) => log(name, ...line) }
    return startPeer({ ...own, ...tell, lendCpus: slots, listen: ['127.0.0.1'], mdns: false }, { overcommit: true }, {})
  }
  try {
    first = await start(1)
    const mesh = new TestMesh(first, others, release)
    const token = await mesh.invite({ uses: machines })
    for (let number = 2; number <= machines; number += 1) {
      const { client, release: stop } = await start(number, token)
      others.push(new Mesh(client, stop))
    }
    await connected(mesh, machines)
    return mesh
  } catch (error) {
    await first?.client.close()
    await release()
    throw error
  }
}

async function connected(mesh: Mesh, machines: number): Promise<void> {
  while ((await mesh.status()).machines.connected < machines) await new Promise((resolve) => setTimeout(resolve, 10))
}
