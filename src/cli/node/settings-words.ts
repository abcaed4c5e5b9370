/** The settings of a node as the options of `batchmesh up` that they came from. */
import type { Settings } from '../../mesh/settings.ts'

/** By the name of the option; only what is set. */
export function optionsOf(settings: Settings): Record<string, string[] | boolean> {
  const {
    port,
    listen,
    announce,
    bootstrap,
    mdns,
    lendCpus,
    lendMemoryMiB,
    blobQuotaMiB,
    diskReserveMiB,
    pidsLimit,
    labels,
    class: kind,
    name,
  } = settings
  const one = (value: string | number | undefined, unit = '') => (value === undefined ? undefined : [`${value}${unit}`])
  const options = {
    port: one(port),
    listen,
    announce,
    bootstrap,
    mdns,
    'lend-cpus': one(lendCpus),
    'lend-memory': one(lendMemoryMiB, 'MiB'),
    'blob-quota': one(blobQuotaMiB, 'MiB'),
    'disk-reserve': one(diskReserveMiB, diskReserveMiB === 0 ? '' : 'MiB'),
    'pids-limit': one(pidsLimit),
    label: labels === undefined ? undefined : Object.entries(labels).map(([label, value]) => `${label}=${value}`),
    class: one(kind),
    name: one(name),
  }
  return Object.fromEntries(Object.entries(options).filter((entry): entry is [string, string[] | boolean] => entry[1] !== undefined))
}
