/** Log lines of a node: readable on a terminal, one JSON object a line elsewhere. */
import pino from 'pino'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export type Log = (level: LogLevel, message: string, fields?: Record<string, unknown>) => void

const levels: Record<LogLevel, number> = { debug: 20, info: 30, warn: 40, error: 50 }

/** `write` gets whole lines. `now` is for tests. */
export function makeLog(options: { readable: boolean; least?: LogLevel; write: (line: string) => void; now?: () => Date }): Log {
  const least = options.least ?? 'info'
  if (options.readable) {
    const now = options.now ?? (() => new Date())
    return (level, message, fields) => {
      if (levels[level] < levels[least]) return
      const time = now().toTimeString().slice(0, 8)
      options.write(`${time} ${level === 'info' ? '' : `${level}: `}${message}${fields === undefined ? '' : readableFields(fields)}\n`)
    }
  }
  const logger = pino({ level: least, base: null }, { write: options.write })
  return (level, message, fields) => logger[level](fields ?? {}, message)
}

function readableFields(fields: Record<string, unknown>): string {
  return Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(
      ([name, value]) => ` ${name}=${value instanceof Error ? value.message : typeof value === 'string' ? value : JSON.stringify(value)}`,
    )
    .join('')
}
