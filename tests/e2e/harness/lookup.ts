import { join } from 'node:path'
import type { Key } from '../../../lib/oci/key.ts'
import type { Namespace } from './namespace.ts'

/** What {@link lookup} passes to its process. */
export interface LookupOrder {
  /** In hex. */
  readonly swarmKey: string
  /** Members of the DHT. */
  readonly nodes: readonly { readonly host: string; readonly port: number }[]
  readonly keys: readonly Key[]
}

/** Asks the DHT who announced the keys, from inside a namespace. Returns the peer doors, as `address:port`, by key. */
export async function lookup(namespace: Namespace, order: LookupOrder): Promise<Record<Key, string[]>> {
  const script = join(import.meta.dirname, 'lookup-main.ts')
  return JSON.parse(await namespace.exec(process.execPath, [script, JSON.stringify(order)]))
}
