/** The version of this package, from its package.json. */
import { readFileSync } from 'node:fs'
import { MeshError } from '../protocols/errors.ts'

function read(): string {
  // From src/ in a checkout, from dist/src/ in a package.
  for (const up of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version: string }).version
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  throw new MeshError('InternalError', 'The package has no package.json; install Batchmesh again.')
}

export const version = read()
