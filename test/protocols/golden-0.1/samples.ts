/** A message of every kind, made from its schema: for recording what a version says (record.ts), and for comparing. */
import { z } from 'zod'
import { blobsProtocol } from '../../../protocols/blobs.ts'
import { controlProtocol } from '../../../protocols/control.ts'
import { directProtocol } from '../../../protocols/direct.ts'
import { filesProtocol } from '../../../protocols/files.ts'
import { groupsProtocol } from '../../../protocols/groups.ts'
import { leasesProtocol } from '../../../protocols/leases.ts'
import { localProtocol } from '../../../protocols/local.ts'
import { enrolProtocol, helloProtocol, membershipProtocol } from '../../../protocols/membership.ts'
import { poolsAnnouncementSchema } from '../../../protocols/pools.ts'
import type { Protocol } from '../../../protocols/rpc.ts'

/** Every conversation of this version. */
export const protocols: readonly Protocol[] = [
  blobsProtocol,
  controlProtocol,
  directProtocol,
  enrolProtocol,
  filesProtocol,
  groupsProtocol,
  helloProtocol,
  leasesProtocol,
  localProtocol,
  membershipProtocol,
] as unknown as Protocol[]

export interface JsonSchema {
  type?: string
  properties?: Record<string, JsonSchema>
  items?: JsonSchema
  prefixItems?: JsonSchema[]
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  allOf?: JsonSchema[]
  enum?: unknown[]
  const?: unknown
  pattern?: string
  minimum?: number
  exclusiveMinimum?: number
  minLength?: number
  propertyNames?: JsonSchema
  additionalProperties?: JsonSchema | boolean
  $ref?: string
  $defs?: Record<string, JsonSchema>
}

const text = 'a text'
export const peer = '12D3KooWNaHkSUDmWA2qDLHmPLtKFrJ5VN1wftwdeQMSrprQfTvH'
/** 32 bytes, which is also what digests are. */
export const bytes = Uint8Array.from({ length: 32 }, (_, i) => i * 8)
const blob = `bafkrei${'a'.repeat(52)}`

/** A value with all that the schema allows; `{}` is what is no JSON, which in these protocols is bytes. */
function make(schema: JsonSchema, name: string, root: JsonSchema): unknown {
  if (schema.$ref !== undefined) return make(root.$defs![schema.$ref.replace('#/$defs/', '')]!, name, root)
  if (schema.const !== undefined) return schema.const
  if (schema.enum !== undefined) return schema.enum[0]
  const options = schema.anyOf ?? schema.oneOf
  if (options !== undefined) return make(options[0]!, name, root)
  if (schema.allOf !== undefined) return Object.assign({}, ...schema.allOf.map((part) => make(part, name, root) as object))
  switch (schema.type) {
    case 'object': {
      if (schema.properties === undefined)
        return { room: make((schema.additionalProperties as JsonSchema) ?? { type: 'string' }, name, root) }
      return Object.fromEntries(
        Object.entries(schema.properties)
          // A resource file has one source.
          .filter(([key]) => key !== 'httpUrl' || schema.properties?.blob === undefined)
          .map(([key, part]) => [key, make(part, key, root)]),
      )
    }
    case 'array':
      if (schema.prefixItems !== undefined) return schema.prefixItems.map((part) => make(part, name, root))
      return [make(schema.items ?? {}, name, root)]
    case 'boolean':
      return true
    case 'integer':
    case 'number':
      return Math.max(schema.minimum ?? 3, schema.exclusiveMinimum ?? 0, 3)
    case 'string':
      return stringFor(schema, name)
    case 'null':
      return null
    default:
      return bytes
  }
}

function stringFor(schema: JsonSchema, name: string): string {
  if (/peer|machine|home|founder/i.test(name)) return peer
  if (schema.pattern?.startsWith('^b[a-z2-7]') === true) return blob
  if (schema.pattern === '^[0-9a-f]{32}$') return '0'.repeat(32)
  if (name === 'fileMode') return '0755'
  if (/url/i.test(name)) return 'https://example.org/file'
  if (/path|filePattern/i.test(name)) return 'dir/file.txt'
  if (schema.pattern !== undefined) return 'an-id'
  return text
}

export interface Kind {
  /** `/batchmesh/control/1 server addJob request`. */
  id: string
  schema: z.ZodType
  /** The whole message around a body. */
  wrap: (body: unknown) => unknown
}

/** Every message of every conversation of this version. */
export function kinds(): Kind[] {
  const all: Kind[] = [{ id: 'pools announcement', schema: poolsAnnouncementSchema, wrap: (body) => body }]
  for (const { protocol, client, server } of protocols) {
    for (const [end, side] of Object.entries({ client, server })) {
      for (const [name, { request, answer }] of Object.entries(side.calls)) {
        all.push({ id: `${protocol} ${end} ${name} request`, schema: request, wrap: (body) => [0, 1, name, body] })
        all.push({ id: `${protocol} ${end} ${name} answer`, schema: answer, wrap: (body) => [1, 1, body] })
      }
      for (const [name, note] of Object.entries(side.notes))
        all.push({ id: `${protocol} ${end} ${name} note`, schema: note, wrap: (body) => [3, name, body] })
    }
  }
  return all
}

/** The rules of a message as its sender sees them. Bytes, which JSON does not have, are `{}`. */
export function rulesOf(schema: z.ZodType): JsonSchema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { unrepresentable: 'any', io: 'input' })
  return json as JsonSchema
}

/** A message with all that may stand in it. */
export function sample(schema: z.ZodType): unknown {
  const rules = rulesOf(schema)
  return make(rules, '', rules)
}

/** JSON with bytes as {"$bytes": base64}. */
export function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('base64') }
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(
      Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .map(([key, member]) => [key, plain(member)]),
    )
  return value
}
