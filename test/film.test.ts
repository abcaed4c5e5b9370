/** The film of examples/ without POV-Ray and ffmpeg: what the demonstration falls back on. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32, inflateSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const film = join(import.meta.dirname, '..', 'examples', 'film')
let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'batchmesh-film-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function node(script: string, ...args: string[]): { code: number | null; stderr: string } {
  const { status, stderr } = spawnSync(process.execPath, [join(film, script), ...args], { cwd: directory, encoding: 'utf8' })
  return { code: status, stderr }
}

const render = (frame: number, more: string[] = []) =>
  node('raytrace.mjs', '--frame', String(frame), '--frames', '4', '--width', '32', '--height', '18', '--out', `f${frame}.png`, ...more)

interface Chunk {
  type: string
  data: Buffer
}

/** The chunks of a PNG file, each checked against its sum. */
function chunksOf(name: string): Chunk[] {
  const file = readFileSync(join(directory, name))
  expect(file.subarray(0, 8).toString('latin1')).toBe('\x89PNG\r\n\x1a\n')
  const chunks: Chunk[] = []
  for (let at = 8; at < file.length; ) {
    const length = file.readUInt32BE(at)
    expect(file.readUInt32BE(at + 8 + length)).toBe(crc32(file.subarray(at + 4, at + 8 + length)))
    chunks.push({ type: file.toString('latin1', at + 4, at + 8), data: file.subarray(at + 8, at + 8 + length) })
    at += 12 + length
  }
  return chunks
}
const dataOf = (chunks: Chunk[], type: string): Buffer[] => chunks.filter((chunk) => chunk.type === type).map(({ data }) => data)

describe('the ray tracer', () => {
  it('renders a picture of the size asked for, with light and dark in it', () => {
    expect(render(1)).toEqual({ code: 0, stderr: '' })
    const chunks = chunksOf('f1.png')
    expect(chunks.map(({ type }) => type)).toEqual(['IHDR', 'IDAT', 'IEND'])
    const pixels = inflateSync(Buffer.concat(dataOf(chunks, 'IDAT')))
    expect(pixels).toHaveLength(18 * (1 + 32 * 3))
    expect(Math.max(...pixels)).toBeGreaterThan(200)
    expect(pixels.filter((byte) => byte < 60).length).toBeGreaterThan(pixels.length / 4)
  })

  it('renders the same frame the same, and another one differently', () => {
    render(1)
    const first = readFileSync(join(directory, 'f1.png'))
    render(1)
    render(2)
    expect(readFileSync(join(directory, 'f1.png')).equals(first)).toBe(true)
    expect(readFileSync(join(directory, 'f2.png')).equals(first)).toBe(false)
  })

  it.each([
    [['--frame', '5'], 'past the last'],
    [['--frame', 'x'], 'whole number'],
    [['--width', '0'], 'whole number'],
  ])('refuses %j', (args, reason) => {
    const { code, stderr } = render(1, args)
    expect(code).toBe(1)
    expect(stderr).toContain(reason)
  })
})

describe('the joiner', () => {
  it('makes an animated PNG of the frames in the order of their names', () => {
    for (const frame of [1, 2, 3]) render(frame)
    expect(node('join.mjs', '--fps', '16', '--out', 'film.png', 'f3.png', 'f1.png', 'f2.png')).toEqual({ code: 0, stderr: '' })
    const chunks = chunksOf('film.png')
    expect(chunks.map(({ type }) => type)).toEqual(['IHDR', 'acTL', 'fcTL', 'IDAT', 'fcTL', 'fdAT', 'fcTL', 'fdAT', 'IEND'])
    expect(dataOf(chunks, 'acTL')[0]).toEqual(Buffer.from([0, 0, 0, 3, 0, 0, 0, 0]))
    const frames = [...dataOf(chunks, 'IDAT'), ...dataOf(chunks, 'fdAT').map((data) => data.subarray(4))]
    expect(frames).toEqual([1, 2, 3].map((frame) => dataOf(chunksOf(`f${frame}.png`), 'IDAT')[0]))
    // one sequence over both kinds, as the standard wants it
    const numbered = chunks.filter(({ type }) => type === 'fcTL' || type === 'fdAT').map(({ data }) => data.readUInt32BE(0))
    expect(numbered).toEqual([0, 1, 2, 3, 4])
  })

  it.each([
    ['no frames', [], 'No frames'],
    ['a file that is no PNG', ['f1.png', 'notes.txt'], 'notes.txt is not a PNG file'],
    ['frames of different sizes', ['f1.png', 'f2.png'], 'another size'],
  ])('refuses %s', (_, names, reason) => {
    render(1)
    render(2, ['--width', '30'])
    writeFileSync(join(directory, 'notes.txt'), 'notes')
    const { code, stderr } = node('join.mjs', ...names)
    expect(code).toBe(1)
    expect(stderr).toContain(reason)
  })
})
