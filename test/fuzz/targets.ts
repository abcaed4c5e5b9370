/**
 * What reads bytes and texts from outside, each as a function that is fed one spoilt thing. A target throws when the
 * reader did what it must not: crash with an error that is no refusal, hang, take what breaks its own rules, or touch
 * what all objects share.
 */
import assert from 'node:assert/strict'
import { directoryChildren } from '../../node/store/directory.ts'
import { nodeCid, parseBlobId } from '../../node/store/unixfs.ts'
import { FrameDecoder, FramingError } from '../../protocols/framing.ts'
import { decodeCertificate, decodeRevocations, decodeSigned } from '../../protocols/membership.ts'
import { joinCommandLine, splitCommandLine } from '../../protocols/model/command-line.ts'
import { isPattern, matchesPatterns } from '../../protocols/model/file-pattern.ts'
import { taskSpecSchema } from '../../protocols/model/task.ts'
import { arrayTask, escapeTemplate, fillIndex, taskArraySchema } from '../../protocols/model/task-array.ts'
import { decodeOpening } from '../../protocols/opening.ts'
import { decodeToken, encodeToken } from '../../protocols/token.ts'
import { parseArray } from '../../src/cli/array.ts'
import { checkTask, jobFromJson, poolFromJson, tasksFromJson } from '../../src/cli/json-file.ts'
import { readQuery } from '../../src/cli/query.ts'
import { parseShellTemplate } from '../../src/cli/shell-template.ts'
import { expand, parseWordTemplate } from '../../src/cli/template.ts'
import { cliTarget } from './cli.ts'
import { type Dice, spoilBytes, spoilValue } from './dice.ts'
import { scriptTargets } from './scripts.ts'
import { sessionTargets } from './sessions.ts'
import { mayRefuse, type Target } from './target.ts'

const token = encodeToken({
  mesh: 'k1bkpvz9v1p22p3f50vuh74joyjkfveygixnph8h9i4k0p1kqin',
  expires: 1_800_000_000_000,
  founder: '12D3KooWEtWt4bZJDB74GaFt8gaUqsYdujpY7UcZ7d3PdzhcqH9A',
  addresses: ['/ip4/192.0.2.1/tcp/4747'],
  secret: new Uint8Array(16).fill(7),
})

const task = {
  id: 'render-7',
  commandLine: 'sh -c "echo $X {index}"',
  environmentSettings: [{ name: 'X', value: '1' }],
  resourceFiles: [{ filePath: 'in/a.txt', httpUrl: 'https://example.org/a' }],
  outputFiles: [{ filePattern: '**/*.png', destination: { container: { containerUrl: 'https://example.org/c' } } }],
  constraints: { maxWallClockTime: 'PT15M', maxTaskRetryCount: 2, retentionTime: 'P7D' },
  dependsOn: { taskIds: ['a'], taskIdRanges: [{ start: 1, end: 9 }] },
  requiredSlots: 2,
  multiInstanceSettings: { numberOfInstances: 2, coordinationCommandLine: 'true' },
}
const job = {
  id: 'job',
  poolInfo: { poolId: 'pool' },
  priority: 5,
  constraints: { maxWallClockTime: 'PT1H', maxTaskRetryCount: -1 },
  onAllTasksComplete: 'terminatejob',
  commonEnvironmentSettings: [{ name: 'A', value: 'b' }],
  metadata: [{ name: 'm', value: 'n' }],
}
const pool = {
  id: 'pool',
  vmSize: 'standard_d2s_v3',
  targetDedicatedNodes: 2,
  taskSchedulingPolicy: { nodeFillType: 'pack' },
  virtualMachineConfiguration: { imageReference: { publisher: 'x' } },
  resizeTimeout: 'PT15M',
}
const array = taskArraySchema.parse({
  indexes: [{ start: 0, end: 9, step: 3 }],
  idPrefix: 't-',
  template: {
    commandLine: 'echo {index:03} {{x}',
    environmentSettings: [{ name: 'I', value: '{index}' }],
    outputFiles: [{ filePattern: '{index}.png' }],
  },
})

/** A text that is sometimes well formed: a seed with faults, or made of awkward pieces. */
function text(dice: Dice, seeds: readonly string[]): string {
  if (dice.chance(0.4)) return dice.text(40)
  const seed = dice.pick(seeds)
  const at = dice.below(seed.length + 1)
  return seed.slice(0, at) + dice.text(6) + seed.slice(dice.chance(0.5) ? at : dice.below(seed.length + 1))
}

export const targets: readonly Target[] = [
  {
    name: 'frames',
    feed(dice) {
      const decoder = new FrameDecoder(1 << 12)
      const frames: Uint8Array[] = []
      let pushed = 0
      try {
        for (let chunks = dice.below(6); chunks > 0; chunks -= 1) {
          const chunk = dice.chance(0.5)
            ? Uint8Array.from([0, 0, 0, dice.below(20), ...dice.bytes(dice.below(30))])
            : dice.bytes(dice.below(40))
          pushed += chunk.length
          decoder.push(chunk, frames)
        }
      } catch (error) {
        if (!(error instanceof FramingError)) throw error
      }
      assert(frames.reduce((sum, frame) => sum + frame.length + 4, 0) <= pushed, 'frames hold no more than what came')
    },
  },
  {
    name: 'opening',
    feed: (dice) => void mayRefuse(() => decodeOpening(spoilBytes(dice, dice.bytes(20)))),
  },
  {
    name: 'token',
    feed(dice) {
      const spoilt = text(dice, [token])
      const read = mayRefuse(() => decodeToken(spoilt))
      if (read !== undefined) assert.equal(encodeToken(read), spoilt.replace(/\s/g, ''), 'a token that is taken is the one that was made')
    },
  },
  {
    name: 'signed',
    feed(dice) {
      const bytes = spoilBytes(dice, dice.bytes(dice.below(200)))
      for (const read of [decodeSigned, decodeCertificate, decodeRevocations]) mayRefuse(() => read(bytes))
    },
  },
  {
    name: 'directory blocks',
    feed(dice) {
      const block = spoilBytes(dice, dice.pick(blocks))
      const id = nodeCid(block).toString()
      for (const { name } of mayRefuse(() => directoryChildren(id, block)) ?? [])
        assert(!name.includes('/') && !name.includes('\0') && name !== '..' && name !== '.', `the entry ${JSON.stringify(name)} leads out`)
    },
  },
  {
    name: 'blob ids',
    feed(dice) {
      const id = text(dice, [
        'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy',
        'QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG',
      ])
      if (mayRefuse(() => parseBlobId(id)) !== undefined) assert.match(id, /^b[a-z2-7]+$/)
    },
  },
  { name: 'job files', feed: (dice) => void mayRefuse(() => jobFromJson(spoilValue(dice, job))) },
  { name: 'pool files', feed: (dice) => void mayRefuse(() => poolFromJson(spoilValue(dice, pool))) },
  {
    name: 'task files',
    feed(dice) {
      const tasks = mayRefuse(() => tasksFromJson(spoilValue(dice, dice.chance(0.5) ? [task, task] : { value: [task] })))
      for (const one of tasks ?? []) {
        const spec = mayRefuse(() => checkTask(one))
        if (spec !== undefined) assert.deepEqual(taskSpecSchema.parse(spec), spec, 'a spec that was checked passes again as it is')
      }
    },
  },
  {
    name: 'task arrays',
    feed(dice) {
      const read = taskArraySchema.safeParse(spoilValue(dice, array))
      if (!read.success) return
      const made = arrayTask(read.data, read.data.indexes[0]!.start)
      assert(made.id.startsWith(read.data.idPrefix))
    },
  },
  {
    name: 'array texts',
    feed(dice) {
      const plain = dice.text(30)
      assert.equal(fillIndex(escapeTemplate(plain), dice.below(1000)), plain)
    },
  },
  {
    name: 'indexes',
    feed(dice) {
      const indexes = mayRefuse(() => parseArray(text(dice, ['0-99', '0-99:7', '1,5,9', '3-5,100-200:50'])))
      if (indexes !== undefined) assert(JSON.stringify(indexes).length > 0)
    },
  },
  {
    name: 'command lines',
    feed(dice) {
      const words = Array.from({ length: 1 + dice.below(4) }, () => dice.text(12))
      assert.deepEqual(splitCommandLine(joinCommandLine(words)), words)
      mayRefuse(() => splitCommandLine(text(dice, ['sh -c "a b" c', "x 'y z' \\ w"])))
    },
  },
  {
    name: 'file patterns',
    feed(dice) {
      const pattern = text(dice, ['**/*.png', 'out/[a-c]?.txt', '[!a]*/**'])
      if (isPattern(pattern)) matchesPatterns(dice.text(60), [pattern])
    },
  },
  {
    name: 'templates',
    feed(dice) {
      const given = text(dice, ["awk '{print $1}' {input} > {name}.txt", 'x=$(cat "{input}"); echo $((1+{index}))', '{index:04}.{ext}'])
      const values = { input: `in/${dice.text(12)}`, index: dice.below(1000) }
      for (const parse of [parseWordTemplate, parseShellTemplate]) {
        const template = mayRefuse(() => parse(given))
        if (template !== undefined) expand(template, values)
      }
    },
  },
  {
    name: 'queries',
    feed(dice) {
      const query = mayRefuse(() => readQuery(text(dice, ["[?state=='active'].id", 'length(@)', '[].{a: id, b: counts.failed}'])))
      if (query !== undefined) mayRefuse(() => query.apply([{ id: 'a', state: 'active', counts: { failed: 1 } }]))
    },
  },
  ...scriptTargets,
  ...sessionTargets,
  cliTarget,
]

const blocks = [
  // an empty directory, and one with a file (dag-pb, unixfs)
  Buffer.from('0a020801', 'hex'),
  Buffer.from('12330a2401551220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85512096f6e652e7478741800' + '0a020801', 'hex'),
]
