/** What a machine was told at one start holds at the next. */
import { describe, expect, it } from 'vitest'
import { MeshLab } from './support/mesh-lab.ts'

describe('the options of up', () => {
  it('are those of the start before, unless given anew, and what is lent is said', async (t) => {
    const lab = await MeshLab.create(t)
    const network = ['--listen', '127.0.0.1', '--no-mdns', '--port', '0']
    const lent = ['--lend-cpus', '0.5', '--lend-memory', '256MiB', '--class', 'low-priority', '--label', 'room=lab']
    const first = await lab.up('one', { network, args: lent })
    expect(first.stdout).toContain('It lends 0.5 cores and 256 MiB of memory, as a low-priority machine with room=lab.\n')
    await first.down()

    const back = await lab.cli('one', ['up', '--detach'])
    expect(back.stdout + back.stderr).toContain('It lends 0.5 cores and 256 MiB of memory, as a low-priority machine with room=lab.\n')
    const [machine] = await lab.json('one', ['machine', 'list'])
    expect(machine).toMatchObject({ name: 'one', class: 'low-priority', labels: { room: 'lab' }, capacity: { cores: 0.5, memoryMiB: 256 } })
    expect((machine.addresses as string[]).every((address) => address.startsWith('/ip4/127.0.0.1/'))).toBe(true)
    expect((await lab.cli('one', ['down'])).code).toBe(0)

    const changed = await lab.cli('one', ['up', '--detach', '--class', 'dedicated', '--lend-cpus', '0'])
    expect(changed.stdout + changed.stderr).toContain('It runs no tasks, as a dedicated machine with room=lab.\n')
    expect((await lab.cli('one', ['down'])).code).toBe(0)

    const reset = await lab.cli('one', ['up', '--detach', '--defaults', ...network])
    expect(reset.stdout + reset.stderr).toMatch(/It lends .*, as a dedicated machine\.\n/)
    expect((await lab.cli('one', ['down'])).code).toBe(0)
  })
})
