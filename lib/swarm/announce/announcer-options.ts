import type { Key } from '../../oci/key.ts'
import { RECORD_LIFE } from '../dht/records.ts'
import type { TopicRecord } from '../dht/table.ts'
import type { NodeAddress } from '../members/bootstrap.ts'
import type { CourierOptions } from './courier.ts'

/** What records are made of. */
export interface RecordSource {
  topicOf(key: Key): Uint8Array
  /** The addresses of this node's record for a topic. */
  relaysOf(topic: Uint8Array): readonly NodeAddress[]
  /** Whether it is this node's record. */
  isOwn(record: TopicRecord): boolean
}

export interface AnnouncerOptions extends CourierOptions {
  /** On how many nodes a key is stored: those closest to its topic. */
  readonly replicas?: number
  /** Milliseconds within which everything is announced again. */
  readonly refreshPeriod?: number
  /** Milliseconds that nodes keep a record at most. */
  readonly recordLife?: number
  /** Milliseconds between looks for what is due. */
  readonly tick?: number
}

/**
 * As many as in BitTorrent's DHT. Hyperdht's own announcements take 20, since nobody looks after them until the next; here, who
 * dies is replaced within seconds, and every copy costs each node 0.1 ms of CPU in every period, and memory.
 */
export const REPLICAS = 8
/** A third of a record's life is left for trouble. */
export const REFRESH_PERIOD = 20 * 60_000
const TICK = 250

export interface AnnouncerFigures {
  /** Keys that are kept announced, and those that wait for their announcement or withdrawal to be complete. */
  readonly keys: number
  readonly waiting: number
  /** Keys whose turn to be announced again has come so far, and by how many milliseconds that is late now. */
  readonly refreshed: number
  readonly lag: number
  /** Records stored and removed at nodes so far, and requests for it that were lost. */
  readonly stored: number
  readonly removed: number
  readonly lost: number
}

/** The announcer's own options, complete. */
export function withDefaults(options: AnnouncerOptions) {
  return {
    replicas: options.replicas ?? REPLICAS,
    refreshPeriod: options.refreshPeriod ?? REFRESH_PERIOD,
    recordLife: options.recordLife ?? RECORD_LIFE,
    tick: options.tick ?? TICK,
  }
}
