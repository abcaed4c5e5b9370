/** Seeded chance, and the two ways to spoil things: bytes, and values as a codec gives them. */

/** Numbers from a seed; the same seed gives the same ones (mulberry32). */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0 to below 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  /** A whole number below `count`. */
  below(count: number): number {
    return Math.floor(this.next() * count)
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }

  chance(share: number): boolean {
    return this.next() < share
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256))
  }

  /** Text that breaks parsers: quotes, braces, controls, lone surrogates, other scripts. */
  text(longest = 24): string {
    return Array.from({ length: this.below(longest + 1) }, () => this.pick(awkward)).join('')
  }
}

const awkward = [
  ...'abcXYZ019 _-.,:;/\\|&<>()[]{}$#@!?*~^%+=\'"`\n\t\r'.split(''),
  '\0',
  '\u001b[31m',
  '..',
  '../',
  '{{',
  '${',
  '$(',
  '{index}',
  '{input}',
  '__proto__',
  '\ud800',
  'ü',
  '漢',
  '🜂',
  '-',
  '--',
  '1e999',
  'NaN',
]

/** Bytes with a few faults: flipped, cut, doubled, moved, overwritten lengths. */
export function spoilBytes(dice: Dice, bytes: Uint8Array): Uint8Array {
  let spoilt = bytes
  for (let faults = 1 + dice.below(4); faults > 0; faults -= 1) {
    const at = dice.below(spoilt.length + 1)
    const end = Math.min(spoilt.length, at + 1 + dice.below(8))
    const [before, middle, after] = [spoilt.subarray(0, at), spoilt.subarray(at, end), spoilt.subarray(end)]
    spoilt = dice.pick([
      () => Buffer.concat([before, dice.bytes(middle.length), after]),
      () => Buffer.concat([before, after]),
      () => Buffer.concat([before, middle, middle, after]),
      () => Buffer.concat([before, dice.bytes(1 + dice.below(4)), middle, after]),
      () => Buffer.concat([before, Uint8Array.from([dice.pick([0xc1, 0xdd, 0xdf, 0xc6, 0xff, 0x00, 0x7f, 0x80])]), after]),
      () => before,
    ])()
  }
  return new Uint8Array(spoilt)
}

function strange(dice: Dice): unknown {
  return dice.pick<() => unknown>([
    () => undefined,
    () => null,
    () => dice.pick([0, -0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 53, -(2 ** 63), Number.MAX_VALUE]),
    () => dice.text(),
    () => 'x'.repeat(dice.pick([65, 1025, 70_000])),
    () => dice.bytes(dice.below(40)),
    () => dice.chance(0.5),
    () => [],
    () => ({}),
    () => JSON.parse('{"__proto__":{"polluted":true},"constructor":1}'),
    () => Array.from({ length: dice.below(5) }, () => strange(dice)),
    () => nested(dice.pick([10, 200, 5000])),
  ])()
}

function nested(depth: number): unknown {
  let value: unknown = []
  for (let at = 0; at < depth; at += 1) value = [value]
  return value
}

/** A value with one or two places changed: replaced, left out, doubled, renamed. */
export function spoilValue(dice: Dice, value: unknown): unknown {
  if (dice.chance(0.1)) return strange(dice)
  if (Array.isArray(value)) {
    if (value.length === 0 || dice.chance(0.2)) return [...value, strange(dice)]
    const at = dice.below(value.length)
    return value.map((item, i) => (i === at ? spoilValue(dice, item) : item))
  }
  if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array)) {
    const entries = Object.entries(value)
    if (entries.length === 0 || dice.chance(0.1)) return { ...value, [dice.text(8)]: strange(dice) }
    const at = dice.below(entries.length)
    const [name, item] = entries[at]!
    const rest = entries.filter((_, i) => i !== at)
    return Object.fromEntries(
      dice.pick([
        () => [...rest, [name, spoilValue(dice, item)] as const],
        () => [...rest, [name, spoilValue(dice, item)] as const],
        () => rest,
        () => [...rest, [dice.text(8), item] as const],
      ])(),
    )
  }
  return strange(dice)
}
