/** The coordinator's rows for a backup, page by page, as they stood at one moment (protocols/local.ts). */
import { MeshError } from '../protocols/errors.ts'
import { type LocalProtocol, maxExportBytes, maxExportRows } from '../protocols/local.ts'
import type { CallHandlers } from '../protocols/rpc.ts'
import type { Channel } from '../protocols/wire.ts'

export type Row = [key: string, value: Uint8Array]

/** `read`: the rows from now on unchanged; absent where this machine is not the coordinator. */
export function exportCalls(
  read: (() => AsyncIterable<Row>) | undefined,
  channel: Pick<Channel, 'closed'>,
): Pick<CallHandlers<LocalProtocol['server']>, 'exportRows'> {
  let reading: AsyncIterator<Row> | undefined
  // A reader that went away holds no snapshot of the database.
  void channel.closed.then(() => reading?.return?.())
  return {
    exportRows: async ({ begin }) => {
      if (read === undefined) {
        throw new MeshError('InvalidPropertyValue', 'This machine is not the coordinator of its mesh; a backup is made on the founder.')
      }
      if (begin) {
        await reading?.return?.()
        reading = read()[Symbol.asyncIterator]()
      }
      if (reading === undefined) throw new MeshError('InvalidRequestBody', 'No export was begun in this session.')
      const rows: Row[] = []
      for (let bytes = 0; bytes < maxExportBytes && rows.length < maxExportRows; ) {
        const next = await reading.next()
        if (next.done === true) {
          reading = undefined
          return { rows, done: true }
        }
        rows.push(next.value)
        bytes += next.value[0].length + next.value[1].length
      }
      return { rows, done: false }
    },
  }
}
