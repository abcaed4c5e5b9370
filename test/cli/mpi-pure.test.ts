import { describe, expect, it } from 'vitest'
import { poolSpecSchema } from '../../protocols/model/pool.ts'
import { chooseInPool, chooseNodes } from '../../src/cli/mpi/choose.ts'
import { RankReader, shownLine } from '../../src/cli/mpi/ranks.ts'
import { nodesThatFit, sizeOf } from '../../src/cli/mpi/size.ts'
import { machineView, nodeView, poolView } from './fake-status.ts'

const one = { coresPerRank: 1 }

describe('how many ranks go where', () => {
  it.each([
    // asked, cores of the machines, ranks, nodes, ranks a node, cores a node
    [{ ranks: 8, nodes: 4 }, [2, 2, 2, 2], [8, 4, 2, 2]],
    [{ ranks: 7, nodes: 4 }, [2, 2, 2, 2], [7, 4, 2, 2]],
    [{ ranks: 8, nodes: 4 }, [8], [8, 4, 2, 2]],
    [{ ranks: 4 }, [4, 2], [4, 1, 4, 4]],
    [{ ranks: 6 }, [4, 2], [6, 3, 2, 2]],
    [{ ranks: 4 }, [2, 1, 1], [4, 4, 1, 1]],
    [{ nodes: 2 }, [4, 3, 1], [6, 2, 3, 3]],
    [{ nodes: 3 }, [4, 3, 1], [3, 3, 1, 1].with(0, 6).with(2, 2).with(3, 2)],
    [{ nodes: 2, coresPerRank: 2 }, [4, 4], [4, 2, 2, 4]],
    [{ ranks: 4, nodes: 1, coresPerRank: 0.5 }, [2], [4, 1, 4, 2]],
    [{ nodes: 1, coresPerRank: 0.1 }, [0.3], [3, 1, 3, 0.1 * 3]],
  ] as const)('%j on machines of %j cores', (asked, cores, [ranks, nodes, ranksPerNode, each]) => {
    expect(sizeOf({ ...one, ...asked }, cores).size).toEqual({ ranks, nodes, ranksPerNode, cores: each })
  })

  it('no node is left without a rank, and none has less than its ranks need', () => {
    for (let ranks = 1; ranks <= 40; ranks += 1)
      for (const cores of [[1, 1, 1], [7], [4, 4, 2], [16, 3, 3, 3, 1]]) {
        const { size } = sizeOf({ ...one, ranks }, cores)
        const all = cores.reduce((sum, has) => sum + has, 0)
        if (size === undefined) expect(ranks).toBeGreaterThan(all - cores.length * 3)
        else {
          expect(size.ranksPerNode * size.nodes).toBeGreaterThanOrEqual(ranks)
          expect(size.ranksPerNode * (size.nodes - 1)).toBeLessThan(ranks)
          expect(nodesThatFit(cores, size.cores)).toBeGreaterThanOrEqual(size.nodes)
        }
      }
  })

  it('more nodes than ranks are refused', () => {
    expect(() => sizeOf({ ...one, ranks: 2, nodes: 3 }, [8])).toThrow('--nodes 3 is more than the 2 ranks of -n')
  })
})

describe('which machines', () => {
  const mpich = [{ flavor: 'mpich', version: '4.0.2' }]

  it('those with the same version, Open MPI first, and only what is asked for', () => {
    const machines = [
      machineView('a', { mpi: [...mpich, { flavor: 'openmpi', version: '4.1.4' }] }),
      machineView('b', { mpi: mpich }),
      machineView('c', { mpi: [{ flavor: 'openmpi', version: '5.0.5' }], capacity: { cores: 8, memoryMiB: 1, gpus: 0 } }),
    ]
    expect(chooseNodes(machines, { ...one, ranks: 4 }, undefined)).toMatchObject({
      mpi: { flavor: 'openmpi', version: '5.0.5' },
      dedicated: 1,
    })
    expect(chooseNodes(machines, { ...one, ranks: 8, nodes: 2 }, 'mpich')).toMatchObject({ mpi: { flavor: 'mpich' }, dedicated: 2 })
  })

  it('low-priority ones where those that stay are too few', () => {
    const machines = [machineView('a'), machineView('b', { class: 'low-priority' })]
    expect(chooseNodes(machines, { ...one, ranks: 8, nodes: 2 }, undefined)).toMatchObject({ dedicated: 1, lowPriority: 1 })
  })

  it('what is in use now is waited for, if the mesh has it at all', () => {
    const machines = [machineView('a', { reserved: { cores: 3, memoryMiB: 0, gpus: 0 } })]
    expect(chooseNodes(machines, { ...one, ranks: 1 }, undefined).isFree).toBe(true)
    expect(chooseNodes(machines, { ...one, ranks: 2 }, undefined).isFree).toBe(false)
  })

  it.each([
    [[machineView('a'), machineView('b')], { ranks: 8, nodes: 4 }, undefined, undefined],
    [
      [machineView('a'), machineView('b', { capacity: { cores: 1, memoryMiB: 1, gpus: 0 } })],
      { ranks: 12, nodes: 4 },
      undefined,
      /^2 machines have Open MPI 4\.1\.4 \(a with 4 cores, b with 1 core\), with room for 1 node of 3 cores; 4 nodes are needed\./,
    ],
    [[machineView('a')], { ranks: 6 }, undefined, /1 machine has Open MPI 4\.1\.4 \(a with 4 cores\); 6 cores are needed for 6 ranks/],
    [
      [machineView('a', { mpi: mpich }), machineView('b', { mpi: undefined }), machineView('c', { connected: false })],
      { nodes: 2 },
      'openmpi',
      /^None of the 2 connected machines has Open MPI\. There is MPICH 4\.0\.2\. Install it there/,
    ],
    [[], { nodes: 2 }, undefined, /None of the 0 connected machines has an MPI/],
    [
      [machineView('a'), machineView('b', { mpi: [{ flavor: 'openmpi', version: '5.0.5' }] })],
      { ranks: 8, nodes: 2 },
      undefined,
      /All nodes of a program must have the same/,
    ],
  ] as const)('machines %#: says what is missing', (machines, asked, flavor, message) => {
    const choose = () => chooseNodes(machines, { ...one, ...asked }, flavor)
    if (message === undefined) expect(choose).not.toThrow()
    else expect(choose).toThrow(message)
  })

  it('a pool that is not for gangs, or too small, is refused', () => {
    const pool = (more: object) =>
      poolView(poolSpecSchema.parse({ id: 'p', vmSize: 'cores=2', targetDedicatedNodes: 2, enableInterNodeCommunication: true, ...more }))
    const node = (id: string, machine: string) => nodeView('p', machine, id)
    const machines = [machineView('a'), machineView('b', { mpi: mpich })]
    const nodes = [node('1', '12D3KooWFakea'), node('2', '12D3KooWFakeb')]
    expect(() => chooseInPool(pool({ enableInterNodeCommunication: false }), nodes, machines, one, undefined)).toThrow('not for MPI')
    expect(() => chooseInPool(pool({ taskSlotsPerNode: 2 }), nodes, machines, one, undefined)).toThrow('not for MPI')
    expect(() => chooseInPool(pool({}), nodes, machines, { ...one, nodes: 2 }, undefined)).toThrow(
      'Pool p has 2 nodes of 2 cores, 1 of them with Open MPI 4.1.4; 2 nodes are needed.',
    )
    expect(chooseInPool(pool({}), [nodes[0]!, node('2', '12D3KooWFakea')], machines, one, undefined)).toMatchObject({
      size: { ranks: 4, nodes: 2 },
      isFree: true,
    })
  })
})

describe('lines of ranks', () => {
  const read = (...pieces: string[]) => {
    const reader = new RankReader()
    return [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()].map((line) => shownLine(line, false)).join('')
  }

  it.each([
    ['[1,0]<stdout>:hello\n[1,12]<stderr>:  two\n', '[0] hello\n[12]   two\n'],
    ['[prterun-host-77@1,3]<stdout>: hello\n', '[3] hello\n'],
    ['[4] from MPICH\n', '[4] from MPICH\n'],
    ['mpirun says\n[1,0]<stdout>:x', 'mpirun says\n[0] x\n'],
    ['[1,0]<stdout>:\n', '[0] \n'],
    ['[not a rank] x\n[1]x\n', '[not a rank] x\n[1]x\n'],
  ])('%j is shown as %j', (given, shown) => {
    expect(read(given)).toBe(shown)
    // However it is cut.
    expect(read(...Array.from(given))).toBe(shown)
  })

  it('a line that a rank wrote in pieces is one, whatever others wrote between', () => {
    expect(read('[1,0]<stdout>:ab[1,1]<stdout>:xy[1,0]<stdout>:cd\n[1,1]<stdout>:z\n')).toBe('[0] abcd\n[1] xyz\n')
  })

  it('one without end comes at the end', () => {
    expect(read('[1,0]<stdout>:half[1,1]<stdout>:whole\n')).toBe('[1] whole\n[0] half\n')
  })

  it('ranks have colours of their own on a terminal', () => {
    expect(shownLine({ rank: 0, text: 'x' }, true)).toBe('\u001b[36m[0]\u001b[39m x\n')
    expect(shownLine({ rank: 1, text: 'x' }, true)).not.toContain('[36m')
  })
})
