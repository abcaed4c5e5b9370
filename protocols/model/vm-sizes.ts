/**
 * Azure VM sizes as cores and memory, so that pool definitions written for Azure Batch work as they are. Sizes follow
 * Microsoft's naming convention (learn.microsoft.com/azure/virtual-machines/vm-naming-conventions): family letter,
 * number of vCPUs, additive features, version; memory a vCPU is a property of the family.
 */
import { MeshError } from '../errors.ts'
import type { Capacity } from './resources.ts'

/** GiB of memory a vCPU, by family (Azure's published size tables). */
const memoryPerCoreGiB: Record<string, number> = {
  a: 2,
  b: 4,
  d: 4,
  ds: 4,
  e: 8,
  es: 8,
  f: 2,
  fs: 2,
  fx: 21,
  h: 7,
  hb: 4,
  hc: 8,
  l: 8,
  m: 28,
  nc: 18,
  nd: 18,
  nv: 16,
}
/** Sizes whose number is not a count of vCPUs, or whose memory is off the family's ratio. */
const irregular: Record<string, [cores: number, memoryGiB: number]> = {
  standard_a1: [1, 1.75],
  standard_a2: [2, 3.5],
  standard_a3: [4, 7],
  standard_a4: [8, 14],
  standard_b1s: [1, 1],
  standard_b1ms: [1, 2],
  standard_b2s: [2, 4],
  standard_d1: [1, 3.5],
  standard_d2: [2, 7],
  standard_d3: [4, 14],
  standard_d4: [8, 28],
  standard_d1_v2: [1, 3.5],
  standard_d2_v2: [2, 7],
  standard_d3_v2: [4, 14],
  standard_d4_v2: [8, 28],
  standard_d5_v2: [16, 56],
}
const gpuFamilies = new Set(['nc', 'nd', 'nv'])

/** Capacity of a vmSize: an Azure name in any case, or `cores=2,memory=4GiB[,gpus=1]`. Throws InvalidPropertyValue. */
export function capacityOfVmSize(vmSize: string): Capacity {
  const name = vmSize.toLowerCase()
  if (name.includes('=')) return customSize(vmSize)
  const known = irregular[name]
  if (known !== undefined) return { cores: known[0], memoryMiB: known[1] * 1024, gpus: 0 }
  const parts = /^(?:standard|basic)_([a-z]{1,2}?)(\d+)(?:-\d+)?([a-z]*)(?:_[a-z0-9]+)*$/.exec(name)
  const perCore = parts === null ? undefined : memoryPerCoreGiB[parts[1]!]
  if (parts === null || perCore === undefined) {
    throw new MeshError(
      'InvalidPropertyValue',
      `The VM size ${vmSize} is not known. Use an Azure name such as standard_d2s_v3, or cores=2,memory=4GiB.`,
    )
  }
  const cores = Number(parts[2])
  return { cores, memoryMiB: cores * perCore * 1024, gpus: gpuFamilies.has(parts[1]!) ? Math.max(1, Math.floor(cores / 6)) : 0 }
}

function customSize(text: string): Capacity {
  const size: Capacity = { cores: 0, memoryMiB: 0, gpus: 0 }
  for (const part of text.split(',')) {
    const [key, value] = part.split('=').map((s) => s.trim().toLowerCase())
    if (key === 'cores' && Number(value) > 0) size.cores = Number(value)
    else if (key === 'gpus' && Number.isInteger(Number(value)) && Number(value) >= 0) size.gpus = Number(value)
    else if (key === 'memory') size.memoryMiB = memoryMiB(value ?? '')
    else
      throw new MeshError(
        'InvalidPropertyValue',
        `The size ${text} is not understood at "${part}". Write it as cores=2,memory=4GiB,gpus=0.`,
      )
  }
  if (size.cores === 0) throw new MeshError('InvalidPropertyValue', `The size ${text} names no cores. Write it as cores=2,memory=4GiB.`)
  return size
}

const units: Record<string, number> = {
  '': 1,
  m: 1,
  mib: 1,
  mb: 1000 ** 2 / 1024 ** 2,
  g: 1024,
  gib: 1024,
  gb: 1000 ** 3 / 1024 ** 2,
  t: 1024 ** 2,
  tib: 1024 ** 2,
}

/** MiB of `512M`, `4GiB`, `1.5g`; a bare number is MiB. Throws InvalidPropertyValue. */
export function memoryMiB(text: string): number {
  const parts = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/.exec(text.trim().toLowerCase())
  const unit = parts === null ? undefined : units[parts[2]!]
  if (parts === null || unit === undefined)
    throw new MeshError('InvalidPropertyValue', `The amount of memory ${text} is not understood. Write it as 512MiB or 4GiB.`)
  return Number(parts[1]) * unit
}
