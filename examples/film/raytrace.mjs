#!/usr/bin/env node
// A small ray tracer in plain Node, for machines without POV-Ray: one frame of a looping film of a mesh at work, on one core.
//
//   node raytrace.mjs --frame 7 --frames 48 --width 320 --height 180 --out f0007.png
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { crc32, deflateSync } from 'node:zlib'

const { values } = parseArgs({
  options: {
    frame: { type: 'string', default: '1' },
    frames: { type: 'string', default: '48' },
    width: { type: 'string', default: '320' },
    height: { type: 'string', default: '180' },
    out: { type: 'string' },
  },
})

/** A whole number of at least 1 from the command line. */
function whole(name) {
  const number = Number(values[name])
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${name} must be a whole number of at least 1, not "${values[name]}".`)
  return number
}

const frame = whole('frame')
const frames = whole('frames')
const width = whole('width')
const height = whole('height')
if (frame > frames) throw new Error(`--frame ${frame} is past the last one (--frames ${frames}).`)
const out = values.out ?? `frame${String(frame).padStart(4, '0')}.png`

const turn = (2 * Math.PI * (frame - 1)) / frames
const share = (frame - 1) / frames

// ---- vectors: [x, y, z], y up

const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
const scale = (a, k) => [a[0] * k, a[1] * k, a[2] * k]
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
const unit = (a) => scale(a, 1 / Math.sqrt(dot(a, a)))
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
const mix = (a, b, k) => add(scale(a, 1 - k), scale(b, k))
const along = (a, b, u) => mix(a, b, u)

// ---- the scene

const hues = [
  [1.0, 0.16, 0.02],
  [1.0, 0.55, 0.02],
  [0.08, 0.85, 0.12],
  [0.02, 0.6, 1.0],
  [0.2, 0.14, 1.0],
  [1.0, 0.06, 0.34],
]
const white = [1, 0.9, 0.75]
const hub = [0, 2.35 + 0.12 * Math.sin(turn), 0]
const machines = hues.map((_, i) => {
  const angle = (2 * Math.PI * i) / hues.length
  return [3.1 * Math.cos(angle), 1.35 + 0.3 * Math.sin(turn + angle), 3.1 * Math.sin(angle)]
})

const spheres = machines.map((centre, i) => ({ centre, radius: 0.52, colour: scale(hues[i], 0.7), shine: 0.12 }))
spheres.push({ centre: hub, radius: 0.34, colour: white, emits: scale(white, 1.3), shine: 0 })

/** Glowing lines (from a to b, with a soft width) and balls (a = b); they add their light to whatever is behind them. */
const glows = []
const glow = (a, b, radius, colour) => {
  const ab = sub(b, a)
  glows.push({ a, ab, length2: dot(ab, ab), radius2: radius * radius, colour })
}
const parcel = (a, b, u, colour) => {
  const size = Math.min(1, 7 * u, 7 * (1 - u))
  const head = along(a, b, u)
  glow(head, head, 0.13 * size, scale(add(colour, [0.3, 0.3, 0.3]), 1.7))
  glow(along(a, b, Math.max(0, u - 0.2)), head, 0.07 * size, scale(colour, 0.8))
}
machines.forEach((machine, i) => {
  const next = (i + 1) % machines.length
  glow(machine, machines[next], 0.03, scale(mix(hues[i], hues[next], 0.5), 0.7))
  glow(machine, hub, 0.035, scale(hues[i], 0.8))
  parcel(hub, machine, (2 * share + i / 6) % 1, hues[i])
  parcel(machine, hub, (2 * share + i / 6 + 0.5) % 1, white)
  parcel(machine, machines[next], (share + i * 0.37) % 1, hues[next])
  for (let moon = 0; moon < 2; moon++) {
    const angle = 2 * turn + i + moon * Math.PI
    const tilt = 0.4 + 0.15 * i
    const at = add(machine, [0.82 * Math.cos(angle), 0.82 * Math.sin(angle) * Math.sin(tilt), 0.82 * Math.sin(angle) * Math.cos(tilt)])
    glow(at, at, 0.07, scale(hues[i], 1.6))
  }
})
glow(hub, hub, 0.62, scale(white, 0.35))

const key = unit([-6, 11, -7])
const swing = 0.5 * Math.sin(turn)
const eye = [9.4 * Math.sin(swing), 3.6 + 0.6 * Math.cos(turn), -9.4 * Math.cos(swing)]

// ---- tracing

/** Distance along the ray to a sphere, Infinity for a miss. */
function hitSphere(from, direction, sphere) {
  const oc = sub(from, sphere.centre)
  const b = dot(oc, direction)
  const root = b * b - dot(oc, oc) + sphere.radius * sphere.radius
  if (root < 0) return Infinity
  const near = -b - Math.sqrt(root)
  return near > 1e-4 ? near : Infinity
}

/** How much of the key light reaches a point: soft, by how closely the ray passes the spheres. */
function lit(point) {
  let share = 1
  for (const { centre, radius, emits } of spheres) {
    if (emits !== undefined) continue
    const to = sub(centre, point)
    const ahead = dot(to, key)
    if (ahead <= 0) continue
    const gap = Math.sqrt(Math.max(0, dot(to, to) - ahead * ahead)) - radius
    const soft = 0.06 * ahead
    share = Math.min(share, Math.max(0, Math.min(1, 0.5 + gap / (2 * soft))))
  }
  return share
}

/** The light that glowing things before `reach` add along a ray. */
function glowAlong(from, direction, reach) {
  let light = [0, 0, 0]
  for (const { a, ab, length2, radius2, colour } of glows) {
    // the closest points of the ray and the segment
    const w = sub(from, a)
    const b = dot(direction, ab)
    const d = dot(direction, w)
    const e = dot(ab, w)
    const spread = length2 - b * b
    const v = length2 === 0 ? 0 : Math.max(0, Math.min(1, spread < 1e-9 ? 0 : (e - b * d) / spread))
    const t = v * b - d
    if (t <= 0 || t > reach) continue
    const gap = sub(add(w, scale(direction, t)), scale(ab, v))
    const near2 = dot(gap, gap) / radius2
    if (near2 < 9) light = add(light, scale(colour, Math.exp(-near2)))
  }
  return light
}

function floorColour([x, , z]) {
  const fade = Math.max(0, 1 - Math.sqrt(x * x + z * z) / 22)
  const tile = (Math.floor(x / 0.9) + Math.floor(z / 0.9)) & 1
  let colour = scale(tile === 0 ? [0.02, 0.024, 0.036] : [0.034, 0.039, 0.058], 0.3 + 0.7 * fade)
  machines.forEach((machine, i) => {
    const dx = x - machine[0]
    const dz = z - machine[2]
    colour = add(colour, scale(hues[i], 0.07 / (1 + 2 * (dx * dx + dz * dz))))
  })
  return colour
}

function trace(from, direction, depth) {
  let reach = Infinity
  let sphere
  for (const candidate of spheres) {
    const t = hitSphere(from, direction, candidate)
    if (t < reach) {
      reach = t
      sphere = candidate
    }
  }
  const floor = direction[1] < -1e-6 ? -from[1] / direction[1] : Infinity
  const isFloor = floor < reach
  if (isFloor) reach = floor
  const light = glowAlong(from, direction, reach)
  if (reach === Infinity) {
    const height = Math.max(0, direction[1])
    return add(light, mix([0.012, 0.014, 0.036], [0.004, 0.005, 0.018], Math.min(1, height * 3)))
  }
  const point = add(from, scale(direction, reach))
  const normal = isFloor ? [0, 1, 0] : unit(sub(point, sphere.centre))
  if (!isFloor && sphere.emits !== undefined) return add(light, sphere.emits)

  const shade = Math.max(0, dot(normal, key)) * lit(point)
  const base = isFloor ? floorColour(point) : sphere.colour
  let colour = scale(base, (isFloor ? 0.55 : 0.1) + 0.9 * shade)
  const facing = Math.max(0, -dot(direction, normal))
  const mirror = (isFloor ? 0.16 : sphere.shine) + 0.5 * (1 - facing) ** 5
  const bounced = sub(direction, scale(normal, 2 * dot(direction, normal)))
  if (depth > 0) colour = add(scale(colour, 1 - mirror), scale(trace(add(point, scale(normal, 1e-3)), bounced, depth - 1), mirror))
  if (!isFloor) colour = add(colour, scale([1, 0.95, 0.85], 0.9 * Math.max(0, dot(bounced, key)) ** 80 * lit(point)))
  return add(light, colour)
}

// ---- the picture: four rays a pixel

const ahead = unit(sub([0, 1.05, 0], eye))
const across = unit(cross([0, 1, 0], ahead))
const up = cross(ahead, across)
const zoom = 2 * Math.tan((56 / 2) * (Math.PI / 180))
/** Linear light to an sRGB byte, with a soft shoulder for what glows. */
const toByte = (light) => Math.round(255 * Math.min(1, (1 - Math.exp(-1.5 * light)) * 1.06) ** (1 / 2.2))

const rows = Buffer.alloc(height * (1 + 3 * width))
for (let y = 0; y < height; y++) {
  for (let x = 0; x < width; x++) {
    const pixel = [0, 0, 0]
    for (let ray = 0; ray < 4; ray++) {
      // a rotated grid of four smooths near-level edges better than a square one
      const dx = x + [0.125, 0.625, 0.375, 0.875][ray]
      const dy = y + [0.375, 0.125, 0.875, 0.625][ray]
      const direction = unit(
        add(ahead, add(scale(across, (dx / width - 0.5) * zoom), scale(up, ((0.5 - dy / height) * zoom * height) / width))),
      )
      const light = trace(eye, direction, 2)
      for (let c = 0; c < 3; c++) pixel[c] += toByte(light[c])
    }
    for (let c = 0; c < 3; c++) rows[y * (1 + 3 * width) + 1 + 3 * x + c] = Math.round(pixel[c] / 4)
  }
}

// ---- PNG (RFC 2083): 8-bit RGB, no row filter

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const framed = Buffer.alloc(body.length + 8)
  framed.writeUInt32BE(data.length, 0)
  body.copy(framed, 4)
  framed.writeUInt32BE(crc32(body), body.length + 4)
  return framed
}
const header = Buffer.alloc(13)
header.writeUInt32BE(width, 0)
header.writeUInt32BE(height, 4)
header.set([8, 2, 0, 0, 0], 8)
const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
writeFileSync(
  out,
  Buffer.concat([signature, chunk('IHDR', header), chunk('IDAT', deflateSync(rows, { level: 9 })), chunk('IEND', Buffer.alloc(0))]),
)
