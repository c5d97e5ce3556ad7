import { getRandomValues } from 'node:crypto'
import { type Logger, rareWarnings } from '../../observe/log.ts'
import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import { shuffled } from '../../platform/shuffled.ts'
import { COMPACT_LENGTH, fromCompact, numberFrom } from '../node.ts'

/** Milliseconds for which a node keeps a record that nobody announces again. */
export const RECORD_LIFE = 30 * 60_000
/** Most records. If each node of a swarm holds 60,000 digests, the fullest node reaches this limit. */
const MAX_SIZE = 1_048_576
/**
 * Most records of one topic. A lookup gets only 20 of them, and content that all nodes of a cluster hold would otherwise fill
 * the memory of eight nodes.
 */
const MOST_OF_TOPIC = 1_000
/**
 * Most records of one topic from one host. It is fewer than an answer has, so that a member cannot hide the announcements of
 * others behind those from all its ports. No host runs more mirrors than this.
 */
const MOST_OF_HOST = 16
/** The part of its life by which a record may be kept longer. */
const GRAIN = 0.001

export interface RecordStoreDependencies {
  readonly log: Logger
  readonly clock?: Clock
  readonly random?: () => number
}

export interface RecordStoreOptions {
  /** Milliseconds for which a record is kept that nobody stores again. */
  readonly life?: number
  /** The most records. */
  readonly maxSize?: number
  readonly mostOfTopic?: number
}

/**
 * The records that a node of the DHT keeps for others: who announced each topic, all for the same time. If there is no room, a
 * record is refused, so that the announcer can turn to another node. No acknowledged record is dropped before its time.
 */
export type RecordStore = ReturnType<typeof createRecordStore>

export function createRecordStore(
  { log, clock = systemClock, random = Math.random }: RecordStoreDependencies,
  { life = RECORD_LIFE, maxSize = MAX_SIZE, mostOfTopic = MOST_OF_TOPIC }: RecordStoreOptions = {},
) {
  const warnings = rareWarnings(log, () => clock.now())
  /**
   * For each topic the compact address of each record, as a number, and behind it the time at which it was last stored. A list
   * of numbers takes a third of the memory of a map. Of a topic, the first six bytes take a tenth of the memory of the whole. If
   * two topics of a node ever share them, a lookup of one also finds the peers of the other, which answer 404.
   */
  const topics = new Map<number, number[]>()
  /** When the next record may expire. */
  let expiresAt = Number.POSITIVE_INFINITY
  let size = 0
  let refused = 0

  function recordsOf(topic: Uint8Array): readonly number[] {
    expire()
    return topics.get(numberFrom(topic)) ?? []
  }

  function expire(): void {
    const now = clock.now()
    if (now < expiresAt) return
    let oldest = Number.POSITIVE_INFINITY
    for (const [topic, records] of topics) {
      const kept = records.filter((_, at) => (records[at | 1] as number) >= now - life)
      if (kept.length < records.length) replace(topic, kept)
      for (let at = 1; at < kept.length; at += 2) oldest = Math.min(oldest, kept[at] as number)
    }
    expiresAt = Math.max(oldest + life, now + life * GRAIN)
  }

  function replace(topic: number, records: number[]): void {
    size += (records.length - (topics.get(topic)?.length ?? 0)) / 2
    if (records.length === 0) topics.delete(topic)
    else topics.set(topic, records)
  }

  /** Whether there is no room for another record of the topic with these records. */
  function hasNoRoom(records: readonly number[]): boolean {
    return size >= maxSize || records.length >= 2 * mostOfTopic
  }

  function refuse(address: Uint8Array): false {
    refused++
    const from = addressOf(fromCompact(address))
    warnings.warn('announcements of other nodes refused: there is no room', { from, records: size })
    return false
  }

  const [run = 0] = getRandomValues(new Uint32Array(1))
  return {
    /** Tells this store from the empty one that the node has after its next start. */
    run,

    /** The most records. */
    maxSize,

    /** How many records are kept. */
    get size(): number {
      expire()
      return size
    },

    /** How many records were refused so far because there was no room. */
    get refused(): number {
      return refused
    },

    /**
     * Adds a record, or keeps an existing one for longer.
     *
     * @param address the compact address of the member that announced the topic
     * @returns false if there is no room for it
     */
    add(topic: Uint8Array, address: Uint8Array): boolean {
      const records = recordsOf(topic)
      const owner = numberFrom(address)
      const others = records.filter((_, at) => records[at & ~1] !== owner)
      if (others.length === records.length) {
        const ofHost = others.filter((other, at) => at % 2 === 0 && hostOf(other) === hostOf(owner))
        if (hasNoRoom(records) || ofHost.length >= MOST_OF_HOST) return refuse(address)
      }
      replace(numberFrom(topic), others.concat([owner, clock.now()]))
      expiresAt = Math.min(expiresAt, clock.now() + life)
      return true
    },

    /** Whether there is no room for another record of the topic. */
    isFull: (topic: Uint8Array): boolean => hasNoRoom(recordsOf(topic)),

    /** Removes the record of a topic with that compact address. */
    remove(topic: Uint8Array, address: Uint8Array): void {
      const records = recordsOf(topic)
      const owner = numberFrom(address)
      replace(
        numberFrom(topic),
        records.filter((_, at) => records[at & ~1] !== owner),
      )
    },

    /**
     * The compact addresses of a topic, or `most` of them, chosen and ordered at random, because peers that are found first are
     * asked first.
     */
    get(topic: Uint8Array, most?: number): Uint8Array[] {
      const addresses = recordsOf(topic).filter((_, at) => at % 2 === 0)
      return shuffled(addresses, random).slice(0, most).map(bytesOf)
    },
  }
}

function bytesOf(number: number): Uint8Array {
  return Uint8Array.from({ length: COMPACT_LENGTH }, (_, at) => Math.floor(number / 256 ** (COMPACT_LENGTH - 1 - at)))
}

/** The host of a compact address, which the port follows in two bytes. */
function hostOf(number: number): number {
  return Math.floor(number / 2 ** 16)
}
