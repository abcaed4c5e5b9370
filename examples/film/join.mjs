#!/usr/bin/env node
// Joins PNG frames of one size into an animated PNG, for machines without ffmpeg. Frames come in the order of their names.
//
//   node join.mjs --fps 24 --out film.png frame*.png
import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { crc32 } from 'node:zlib'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { fps: { type: 'string', default: '24' }, out: { type: 'string', default: 'film.png' } },
})
const fps = Number(values.fps)
if (!Number.isInteger(fps) || fps < 1 || fps > 65_535) throw new Error(`--fps must be a whole number from 1 to 65535, not "${values.fps}".`)
if (positionals.length === 0) throw new Error('No frames were given: name the PNG files to join.')
const names = positionals.toSorted((a, b) => (basename(a) < basename(b) ? -1 : 1))

const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])

/** The chunks of a PNG file that make its picture: the header, and the image data joined. */
function readFrame(name) {
  const file = readFileSync(name)
  if (!file.subarray(0, 8).equals(signature)) throw new Error(`${name} is not a PNG file.`)
  let header
  const data = []
  for (let at = 8; at + 12 <= file.length; ) {
    const length = file.readUInt32BE(at)
    const type = file.toString('latin1', at + 4, at + 8)
    const body = file.subarray(at + 8, at + 8 + length)
    if (type === 'IHDR') header = body
    if (type === 'IDAT') data.push(body)
    at += 12 + length
  }
  if (header === undefined || data.length === 0) throw new Error(`${name} has no picture in it; was it cut short?`)
  return { header, data: Buffer.concat(data) }
}

function chunk(type, ...parts) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), ...parts])
  const ends = Buffer.alloc(8)
  ends.writeUInt32BE(body.length - 4, 0)
  ends.writeUInt32BE(crc32(body), 4)
  return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)])
}
const uint32 = (...numbers) => {
  const bytes = Buffer.alloc(4 * numbers.length)
  numbers.forEach((number, i) => {
    bytes.writeUInt32BE(number, 4 * i)
  })
  return bytes
}

// APNG: acTL says how many frames; fcTL before each one, whose data is IDAT for the first and fdAT for the others;
// fcTL and fdAT share one sequence of numbers (W3C, Portable Network Graphics, third edition).
const first = readFrame(names[0])
const chunks = [signature, chunk('IHDR', first.header), chunk('acTL', uint32(names.length, 0))]
let sequence = 0
for (const [i, name] of names.entries()) {
  const { header, data } = i === 0 ? first : readFrame(name)
  if (!header.equals(first.header)) throw new Error(`${name} is of another size or colour type than ${names[0]}.`)
  const delay = Buffer.alloc(6)
  delay.writeUInt16BE(1, 0)
  delay.writeUInt16BE(fps, 2)
  chunks.push(chunk('fcTL', uint32(sequence++, header.readUInt32BE(0), header.readUInt32BE(4), 0, 0), delay))
  chunks.push(i === 0 ? chunk('IDAT', data) : chunk('fdAT', uint32(sequence++), data))
}
chunks.push(chunk('IEND'))
writeFileSync(values.out, Buffer.concat(chunks))
console.log(`${values.out}: ${names.length} frames, ${fps} a second`)
