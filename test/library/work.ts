/** A module whose functions the tests send. */
import { basename } from 'node:path'
import { parse } from 'csv-parse/sync'

export default function double(n: number): number {
  return n * 2
}

export function firstCell(text: string): string {
  return (parse(text) as string[][])[0]![0]!
}

export const nameOf = (path: string): string => basename(path)

interface Order {
  amount: number
}

export function check(order: Order): number {
  if (order.amount < 0) {
    throw new RangeError(`${order.amount} is less than nothing`)
  }
  return order.amount
}

export const notAFunction = 7

export function missing(name: string): never {
  throw new ReferenceError(`${name} is not defined`)
}
