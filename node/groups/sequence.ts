/** The tags of messages within collective operations: their place in the order of calls, and which operation it is. */

/** Collective operations by what their messages say they are: members that call different ones at once are told apart. */
const operations = [
  'barrier',
  'bcast',
  'scatter',
  'gather',
  'allgather',
  'alltoall',
  'reduce',
  'allreduce',
  'reduceScatter',
  'scan',
  'exscan',
  'split',
  'gatherv',
  'allgatherv',
] as const

export type OperationName = (typeof operations)[number]

/** Numbers of operations begin anew after so many, those half as far off counting as later. */
export const sequences = 2 ** 27
export const isFrom = (sequence: number, start: number): boolean => (sequence - start + sequences) % sequences < sequences / 2
export const sequenceOf = (tag: number): number => Math.floor(tag / 16)
export const operationOf = (tag: number): OperationName | undefined => operations[tag % 16]
export const tagOf = (sequence: number, name: OperationName): number => sequence * 16 + operations.indexOf(name)
