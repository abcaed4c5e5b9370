/** What of a function can be sent, and what is said of one that cannot. */
import { describe, expect, it } from 'vitest'
import { bundleFunction } from '../../src/mesh/bundle/bundle.ts'

const rate = 3
const other = 4
type AnyFunction = (...args: never[]) => unknown

async function refusal(work: AnyFunction): Promise<string> {
  return bundleFunction(work).then(
    () => 'it is taken',
    (error: Error) => error.message,
  )
}

async function taken(work: AnyFunction): Promise<(...args: unknown[]) => unknown> {
  const { code } = await bundleFunction(work)
  const url = `data:text/javascript;base64,${Buffer.from(code).toString('base64')}`
  return ((await import(/* @vite-ignore */ url)) as { default: (...args: unknown[]) => unknown }).default
}

describe('a function is refused that', () => {
  it('captures a variable, which is named', async () => {
    expect(await refusal((x: number) => x * rate)).toMatch(/^The function uses "rate", which is defined outside of it/)
    expect(await refusal((x: number) => x * rate + other)).toMatch(/uses "rate" and "other", which are/)
  })
  it.each<[string, AnyFunction, RegExp]>([
    ['captures one in a template', (x: number) => `${rate}${x}`, /"rate"/],
    ['captures one in a default', (x: number, y = rate) => x + y, /"rate"/],
    ['captures one as a shorthand', () => ({ rate }), /"rate"/],
    ['captures one deep inside', () => [1].map((x) => ({ y: () => x + rate })), /"rate"/],
    ['shadows it elsewhere only', (x: number) => [((rate: number) => rate)(x), rate], /"rate"/],
    [
      'uses this',
      function useThis(this: { x: number }) {
        return this.x
      },
      /uses this/,
    ],
    [
      'uses this in a default',
      function useThis(this: { x: number }, y = this.x) {
        return y
      },
      /uses this/,
    ],
    ['is built in', Math.max as AnyFunction, /is built in/],
    ['is bound', ((x: number) => x).bind(null), /is bound/],
    [
      'is a method',
      {
        double(this: void, x: number) {
          return x * 2
        },
      }.double,
      /is a method/,
    ],
    ['is a class', class A {} as unknown as AnyFunction, /is a class/],
    [
      'is a generator',
      function* numbers() {
        yield 1
      },
      /is a generator/,
    ],
    ['is none', 7 as unknown as AnyFunction, /A function is needed, not number/],
  ])('%s', async (_, work, message) => {
    expect(await refusal(work)).toMatch(message)
  })
})

describe('a function is taken that', () => {
  it('uses globals, its own names and what it imports itself', async () => {
    const work = await taken(async (text: string) => {
      const { createHash } = await import('node:crypto')
      const local = { rate: 1 }
      const shadow = (other: number) => other + local.rate
      return createHash('sha256').update(text).digest('hex').length + shadow(1) + Math.max(...new Uint8Array([2]))
    })
    expect(await work('x')).toBe(68)
  })
  it('calls itself, by its own name or by that of its constant', async () => {
    const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1))
    expect((await taken(factorial))(5)).toBe(120)
    expect(
      (
        await taken(function down(n: number): number {
          return n === 0 ? 7 : down(n - 1)
        })
      )(3),
    ).toBe(7)
  })
  it('asks whether a global is there before it uses it', async () => {
    const work = await taken(() => (typeof window === 'undefined' ? 'none' : window.name))
    expect(work()).toBe('none')
  })
  it('has classes with a this of their own', async () => {
    const work = await taken(function count(from: number = (() => 1)()) {
      class Counter {
        at = from
        next() {
          this.at += 1
          return this.at
        }
      }
      return new Counter().next()
    })
    expect(work()).toBe(2)
  })
  it('has words of outside names in strings, comments, properties and labels only', async () => {
    const work = await taken((x: { rate: number }) => {
      // rate
      for (;;) break
      return x.rate + 'rate other'.length
    })
    expect(work({ rate: 1 })).toBe(11)
  })
})

it('a function that imports a file by a relative path is told to be a module', async () => {
  // @ts-expect-error: there is no such file
  expect(await refusal(async () => await import('./elsewhere.ts'))).toMatch(/"\.\/elsewhere\.ts"\. A function is sent without the file/)
})
