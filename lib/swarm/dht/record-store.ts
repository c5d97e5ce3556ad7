import { getRandomValues } from 'node:crypto'
import { type Logger, rareWarnings } from '../../observe/log.ts'
import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import { COMPACT_LENGTH, fromCompact } from '../node.ts'

/** Milliseconds for which a node keeps a record that nobody announces again. */
export const RECORD_LIFE = 30 * 60_000
/** Most records, of 54 bytes each. If each node of a swarm holds 60,000 digests, the fullest node reaches this limit. */
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
const HOST_LENGTH = 4
const TOPIC_LENGTH = 32
/** Bytes that are hashed together. */
const WORD = 4
const FIRST_SLOTS = 1_024
const GROWTH = 1.5
/** The part of the limit beyond which a warning says that it is near. */
const NEAR = 0.8
/** The part of its life by which a record may be kept longer. */
const GRAIN = 0.001
/** Means "no slot". */
const NONE = -1

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
 * The records that a node of the DHT keeps for others: who announced each topic, all for the same time. A record is a slot in
 * some arrays, with 54 bytes including its topic; with topics as strings in a map it took 160. If there is no room, a record is
 * refused, so that the announcer can turn to another node. No acknowledged record is dropped before its time.
 */
export type RecordStore = ReturnType<typeof createRecordStore>

export function createRecordStore(
  { log, clock = systemClock, random = Math.random }: RecordStoreDependencies,
  { life = RECORD_LIFE, maxSize = MAX_SIZE, mostOfTopic = MOST_OF_TOPIC }: RecordStoreOptions = {},
) {
  const warnings = rareWarnings(log, () => clock.now())
  /** The first slot of each bucket of topics. `next` links the others, and also the free slots. */
  let heads = new Int32Array(FIRST_SLOTS).fill(NONE)
  /** Random, so that no member can choose topics that all fall into one bucket. */
  const multipliers = getRandomValues(new Uint32Array(TOPIC_LENGTH / WORD))
  let bytes = new Uint8Array(FIRST_SLOTS * COMPACT_LENGTH)
  let topics = new Uint8Array(FIRST_SLOTS * TOPIC_LENGTH)
  let next = new Int32Array(FIRST_SLOTS)
  /** When each record was last stored; infinite in a free slot. */
  let times = new Float64Array(FIRST_SLOTS)
  /** When the next record may expire. */
  let expiresAt = Number.POSITIVE_INFINITY
  let free = NONE
  let used = 0
  let size = 0
  let refused = 0
  let wasNear = false

  function slotsOf(topic: Uint8Array): number[] {
    const slots: number[] = []
    for (let slot = heads[bucketOf(topic)] as number; slot !== NONE; slot = next[slot] as number)
      if (startsWith(topics, slot * TOPIC_LENGTH, topic, TOPIC_LENGTH)) slots.push(slot)
    return slots
  }

  /** Those of some slots whose compact addresses begin with the first `length` bytes of `address`. */
  function matching(address: Uint8Array, slots: readonly number[], length: number): number[] {
    return slots.filter((slot) => startsWith(bytes, slot * COMPACT_LENGTH, address, length))
  }

  /** Whether there is no room for another record of the topic with these slots. */
  function hasNoRoom(slots: readonly number[]): boolean {
    return size >= maxSize || slots.length >= mostOfTopic
  }

  /** Takes a free slot, and makes it the first of its topic's bucket. */
  function take(topic: Uint8Array): number {
    let slot = free
    if (slot === NONE) {
      if (used === next.length) grow()
      slot = used++
    } else {
      free = next[slot] as number
    }
    size++
    topics.set(topic, slot * TOPIC_LENGTH)
    hang(slot)
    return slot
  }

  function drop(slot: number): void {
    const bucket = bucketOf(topicAt(slot))
    const after = next[slot] as number
    let before = heads[bucket] as number
    if (before === slot) heads[bucket] = after
    else {
      while (next[before] !== slot) before = next[before] as number
      next[before] = after
    }
    times[slot] = Number.POSITIVE_INFINITY
    next[slot] = free
    free = slot
    size--
  }

  function topicAt(slot: number): Uint8Array {
    return topics.subarray(slot * TOPIC_LENGTH, (slot + 1) * TOPIC_LENGTH)
  }

  /** Makes a slot the first of its topic's bucket. */
  function hang(slot: number): void {
    const bucket = bucketOf(topicAt(slot))
    next[slot] = heads[bucket] as number
    heads[bucket] = slot
  }

  function bucketOf(topic: Uint8Array): number {
    if (topic.length !== TOPIC_LENGTH)
      throw new RangeError(`expected a topic of ${TOPIC_LENGTH} bytes, got ${topic.length}`)
    let hash = 0
    for (let at = 0; at < TOPIC_LENGTH; at += WORD) {
      let word = 0
      for (let byte = at; byte < at + WORD; byte++) word = (word << 8) | (topic[byte] as number)
      hash = (hash + Math.imul(word, multipliers[at / WORD] as number)) | 0
    }
    // The upper half depends on all bits of each word.
    return ((hash >>> 16) ^ hash) & (heads.length - 1)
  }

  function expire(): void {
    const now = clock.now()
    if (now < expiresAt) return
    let oldest = Number.POSITIVE_INFINITY
    // A million slots take a millisecond or two.
    for (let slot = 0; slot < used; slot++) {
      const time = times[slot] as number
      if (time < now - life) drop(slot)
      else if (time < oldest) oldest = time
    }
    expiresAt = Math.max(oldest + life, now + life * GRAIN)
  }

  function refuse(address: Uint8Array): false {
    refused++
    const from = addressOf(fromCompact(address))
    warnings.warn('announcements of other nodes refused: there is no room', { from, records: size })
    return false
  }

  /** Nobody finds a digest for which no node has room, which costs a pull from upstream. */
  function warnIfNear(): void {
    const isNear = size > maxSize * NEAR
    if (isNear && !wasNear) log.warn('the limit of stored records is near', { records: size, limit: maxSize })
    wasNear = isNear
  }

  function grow(): void {
    const slots = Math.ceil(next.length * GROWTH)
    const grown = <T extends { set(from: T): void }>(to: T, from: T): T => {
      to.set(from)
      return to
    }
    bytes = grown(new Uint8Array(slots * COMPACT_LENGTH), bytes)
    topics = grown(new Uint8Array(slots * TOPIC_LENGTH), topics)
    next = grown(new Int32Array(slots), next)
    times = grown(new Float64Array(slots), times)
    if (heads.length >= slots) return
    heads = new Int32Array(heads.length * 2).fill(NONE)
    for (let slot = 0; slot < used; slot++) if (times[slot] !== Number.POSITIVE_INFINITY) hang(slot)
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
     * @throws {RangeError} if a topic or a compact address has the wrong length
     */
    add(topic: Uint8Array, address: Uint8Array): boolean {
      if (address.length !== COMPACT_LENGTH) {
        throw new RangeError(`expected an address of ${COMPACT_LENGTH} bytes, got ${address.length}`)
      }
      expire()
      const slots = slotsOf(topic)
      let slot = matching(address, slots, COMPACT_LENGTH)[0]
      if (slot === undefined) {
        if (hasNoRoom(slots) || matching(address, slots, HOST_LENGTH).length >= MOST_OF_HOST) return refuse(address)
        slot = take(topic)
      }
      bytes.set(address, slot * COMPACT_LENGTH)
      times[slot] = clock.now()
      expiresAt = Math.min(expiresAt, clock.now() + life)
      warnIfNear()
      return true
    },

    /** Whether there is no room for another record of the topic. */
    isFull(topic: Uint8Array): boolean {
      expire()
      return hasNoRoom(slotsOf(topic))
    },

    /** How many records of a topic are kept. */
    count(topic: Uint8Array): number {
      expire()
      return slotsOf(topic).length
    },

    /** Removes the record of a topic with that compact address. */
    remove(topic: Uint8Array, address: Uint8Array): void {
      for (const slot of matching(address, slotsOf(topic), COMPACT_LENGTH)) drop(slot)
    },

    /**
     * Up to `most` compact addresses of a topic, chosen and ordered at random, because peers that are found first are asked
     * first.
     */
    get(topic: Uint8Array, most: number): Uint8Array[] {
      expire()
      const slots = slotsOf(topic)
      // The first `count` steps of a shuffle.
      const count = Math.min(most, slots.length)
      for (let at = 0; at < count; at++) {
        const other = at + Math.floor(random() * (slots.length - at))
        const slot = slots[other] as number
        slots[other] = slots[at] as number
        slots[at] = slot
      }
      return slots.slice(0, count).map((slot) => bytes.slice(slot * COMPACT_LENGTH, (slot + 1) * COMPACT_LENGTH))
    },
  }
}

/** Whether `length` bytes from `place` on are the first bytes of another array. */
function startsWith(bytes: Uint8Array, place: number, others: Uint8Array, length: number): boolean {
  let at = 0
  while (at < length && bytes[place + at] === others[at]) at++
  return at === length
}
