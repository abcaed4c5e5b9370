import { describe, expect, it } from 'vitest'
import { matchesPatterns, parsePattern } from '../../protocols/model/file-pattern.ts'

describe('a pattern names', () => {
  it.each([
    ['a.png', '*.png'],
    ['a.png', './a.png'],
    ['out/a.png', 'out//*.png'],
    ['a', '**'],
    ['a/b/c', '**'],
    ['a/b/c', 'a/**'],
    ['a/b/c', '**/c'],
    ['c', '**/c'],
    ['a/x/b/y/c', 'a/**/b/**/c'],
    ['abc', 'a?c'],
    ['a😀c', 'a?c'],
    ['ab', 'a[a-c]'],
    ['ad', 'a[!a-c]'],
    ['a]', 'a[]b]'],
    ['a-', 'a[x-]'],
    ['a[b', 'a[b'],
    ['{a,b}(c)+$^|!\\', '{a,b}(c)+$^|!\\'],
    ['aXbXc', 'a**b*c'],
    ['.hidden', '.hidden'],
    ['.a/.b', '.a/.*'],
    ['a.b.', '*.*.'],
  ])('%s by %s', (path, pattern) => {
    expect(matchesPatterns(path, ['nothing-else', pattern])).toBe(true)
  })
})

describe('a pattern does not name', () => {
  it.each([
    ['a/b.png', '*.png'],
    ['.hidden', '*'],
    ['.hidden', '?hidden'],
    ['.hidden', '[.]hidden'],
    ['.hidden', '**'],
    ['.ssh/id', '**/id'],
    ['a/.ssh/id', 'a/**'],
    ['a', 'a/**'],
    ['a/b', 'a'],
    ['abc', 'ab'],
    ['ab', 'abc'],
    ['A', 'a'],
    ['ab', 'a[!a-c]'],
    ['ab', 'a[z-a]'],
    ['b', '{a,b}'],
  ])('%s by %s', (path, pattern) => {
    expect(matchesPatterns(path, [pattern])).toBe(false)
  })

  it.each(['../a', 'a/../b', '/a', 'a//b', './a', 'a/', '', '.', '..', 'a\0b'])('%j at all, which is not plainly relative', (path) => {
    expect(matchesPatterns(path, ['**', '*', 'a/**'])).toBe(false)
  })
})

it('a pattern that leads out of the working directory is refused', () => {
  for (const pattern of ['../a', '/a', 'a/../../b', '', '.']) expect(() => parsePattern(pattern), pattern).toThrow(/must be relative/)
})

it('no pattern and path keep the matcher busy', () => {
  const pattern = `${'*a'.repeat(1000)}b`
  expect(matchesPatterns('a'.repeat(4000), [pattern])).toBe(false)
  expect(matchesPatterns('a/'.repeat(1000), [`${'**/*/'.repeat(500)}b`])).toBe(false)
  expect(matchesPatterns(`${'a/'.repeat(1000)}c`, [`${'**/*/'.repeat(400)}b`])).toBe(false)
})
