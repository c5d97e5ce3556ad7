import { getRandomValues } from 'node:crypto'
import type { Logger } from '../../observe/log.ts'
import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import { COMPACT_LENGTH, fromCompact } from '../node.ts'
import { rareWarnings } from '../rare-warnings.ts'

/** Milliseconds for which a node keeps a record that is not announced again. */
export const RECORD_LIFE = 30 * 60_000
/** Records at most, of 62 bytes each. In a swarm where each node holds 60,000 digests, the fullest node reaches it. */
const MAX_SIZE = 1_048_576
/**
 * Records of one topic at most. A lookup is answered with 20 of them, and the records of what all nodes of a cluster hold would
 * otherwise fill the memory of eight of them.
 */
const MOST_OF_TOPIC = 1_000
/**
 * Records of one topic from one host at most, fewer than an answer has: a member must not hide what others announce among
 * announcements from all of its ports. More mirrors than these do not run on one host.
 */
const MOST_OF_HOST = 16
const HOST_LENGTH = 4
const TOPIC_LENGTH = 32
/** Bytes that are hashed at a time. */
const WORD = 4
const FIRST_SLOTS = 1_024
const GROWTH = 1.5
/** Part of the limit beyond which a warning says that it is near. */
const NEAR = 0.8
/** Stands for a slot where there is none. */
const NONE = -1

export interface RecordStoreDependencies {
  readonly log: Logger
  readonly clock?: Clock
  readonly random?: () => number
}

export interface RecordStoreOptions {
  /** Milliseconds for which a record is kept that is not stored again. */
  readonly life?: number
  /** Records at most. */
  readonly maxSize?: number
  readonly mostOfTopic?: number
}

/**
 * What a node of the DHT keeps for others: who announced each topic, all for the same time. A record is a slot of some arrays,
 * 62 bytes with its topic; with the topics as strings in a map it was 160. What there is no room for is refused, so that the
 * announcer can turn to another node: nothing that was acknowledged is dropped before its time.
 */
export class RecordStore {
  /** Records at most. */
  readonly maxSize: number
  readonly #warnings: Pick<Logger, 'warn'>
  readonly #log: Logger
  readonly #life: number
  readonly #mostOfTopic: number
  readonly #random: () => number
  readonly #clock: Clock
  /** The first slot of each bucket of topics; the others follow by `next`, which also links the free ones. */
  #heads = new Int32Array(FIRST_SLOTS).fill(NONE)
  /** By chance, so that no member can choose topics that all fall into one bucket. */
  readonly #multipliers = getRandomValues(new Uint32Array(TOPIC_LENGTH / WORD))
  #bytes = new Uint8Array(FIRST_SLOTS * COMPACT_LENGTH)
  #topics = new Uint8Array(FIRST_SLOTS * TOPIC_LENGTH)
  #next = new Int32Array(FIRST_SLOTS)
  /** When a record was stored last. */
  #times = new Float64Array(FIRST_SLOTS)
  /** Slots in the order of their times. */
  #younger = new Int32Array(FIRST_SLOTS)
  #older = new Int32Array(FIRST_SLOTS)
  #oldest = NONE
  #youngest = NONE
  #free = NONE
  #used = 0
  #size = 0
  #refused = 0
  #wasNear = false

  constructor(
    { log, clock = systemClock, random = Math.random }: RecordStoreDependencies,
    { life = RECORD_LIFE, maxSize = MAX_SIZE, mostOfTopic = MOST_OF_TOPIC }: RecordStoreOptions = {},
  ) {
    this.maxSize = maxSize
    this.#log = log
    this.#warnings = rareWarnings(log, () => clock.now())
    this.#clock = clock
    this.#random = random
    this.#life = life
    this.#mostOfTopic = mostOfTopic
  }

  /** How many records are kept. */
  get size(): number {
    this.#expire()
    return this.#size
  }

  /** Records refused so far, for want of room. */
  get refused(): number {
    return this.#refused
  }

  /**
   * Keeps a record, or keeps it for longer.
   *
   * @param address compact, of the member that announced the topic
   * @returns false if there is no room for it
   * @throws {RangeError} for another length than that of a topic or of a compact address
   */
  add(topic: Uint8Array, address: Uint8Array): boolean {
    if (address.length !== COMPACT_LENGTH) {
      throw new RangeError(`expected an address of ${COMPACT_LENGTH} bytes, got ${address.length}`)
    }
    this.#expire()
    const slots = this.#slotsOf(topic)
    let slot = this.#matching(address, slots, COMPACT_LENGTH)[0]
    if (slot !== undefined) this.#unlink(slot)
    else if (this.#hasNoRoom(slots) || this.#matching(address, slots, HOST_LENGTH).length >= MOST_OF_HOST)
      return this.#refuse(address)
    else slot = this.#take(topic)
    this.#bytes.set(address, slot * COMPACT_LENGTH)
    this.#times[slot] = this.#clock.now()
    this.#link(slot)
    this.#warnIfNear()
    return true
  }

  /** Whether there is no room for another record of the topic. */
  isFull(topic: Uint8Array): boolean {
    this.#expire()
    return this.#hasNoRoom(this.#slotsOf(topic))
  }

  /** Removes the record of a topic with that compact address. */
  remove(topic: Uint8Array, address: Uint8Array): void {
    for (const slot of this.#matching(address, this.#slotsOf(topic), COMPACT_LENGTH)) this.#drop(slot)
  }

  /** Up to `most` compact addresses of a topic, chosen at random and in random order: peers that are found first are asked first. */
  get(topic: Uint8Array, most: number): Uint8Array[] {
    this.#expire()
    const slots = this.#slotsOf(topic)
    // The first steps of a shuffle, as many as are wanted.
    const count = Math.min(most, slots.length)
    for (let at = 0; at < count; at++) {
      const other = at + Math.floor(this.#random() * (slots.length - at))
      const slot = slots[other] as number
      slots[other] = slots[at] as number
      slots[at] = slot
    }
    return slots.slice(0, count).map((slot) => this.#bytes.slice(slot * COMPACT_LENGTH, (slot + 1) * COMPACT_LENGTH))
  }

  #slotsOf(topic: Uint8Array): number[] {
    const slots: number[] = []
    for (let slot = this.#heads[this.#bucketOf(topic)] as number; slot !== NONE; slot = this.#next[slot] as number)
      if (startsWith(this.#topics, slot * TOPIC_LENGTH, topic, TOPIC_LENGTH)) slots.push(slot)
    return slots
  }

  /** Those of some slots whose first bytes, so many of the compact address, are these. */
  #matching(address: Uint8Array, slots: readonly number[], length: number): number[] {
    return slots.filter((slot) => startsWith(this.#bytes, slot * COMPACT_LENGTH, address, length))
  }

  /** Whether there is no room for another record of the topic that has these slots. */
  #hasNoRoom(slots: readonly number[]): boolean {
    return this.#size >= this.maxSize || slots.length >= this.#mostOfTopic
  }

  /** A free slot, now the first of its topic's bucket. */
  #take(topic: Uint8Array): number {
    let slot = this.#free
    if (slot === NONE) {
      slot = this.#used++
      if (slot >= this.#next.length) this.#grow()
    } else {
      this.#free = this.#next[slot] as number
    }
    this.#size++
    this.#topics.set(topic, slot * TOPIC_LENGTH)
    this.#hang(slot)
    return slot
  }

  #drop(slot: number): void {
    const bucket = this.#bucketOf(this.#topicAt(slot))
    const after = this.#next[slot] as number
    let before = this.#heads[bucket] as number
    if (before === slot) this.#heads[bucket] = after
    else {
      while (this.#next[before] !== slot) before = this.#next[before] as number
      this.#next[before] = after
    }
    this.#unlink(slot)
    this.#next[slot] = this.#free
    this.#free = slot
    this.#size--
  }

  #topicAt(slot: number): Uint8Array {
    return this.#topics.subarray(slot * TOPIC_LENGTH, (slot + 1) * TOPIC_LENGTH)
  }

  /** Makes a slot the first of its topic's bucket. */
  #hang(slot: number): void {
    const bucket = this.#bucketOf(this.#topicAt(slot))
    this.#next[slot] = this.#heads[bucket] as number
    this.#heads[bucket] = slot
  }

  #bucketOf(topic: Uint8Array): number {
    if (topic.length !== TOPIC_LENGTH)
      throw new RangeError(`expected a topic of ${TOPIC_LENGTH} bytes, got ${topic.length}`)
    let hash = 0
    for (let at = 0; at < TOPIC_LENGTH; at += WORD) {
      let word = 0
      for (let byte = at; byte < at + WORD; byte++) word = (word << 8) | (topic[byte] as number)
      hash = (hash + Math.imul(word, this.#multipliers[at / WORD] as number)) | 0
    }
    // The upper half depends on all bits of each word.
    return ((hash >>> 16) ^ hash) & (this.#heads.length - 1)
  }

  #expire(): void {
    const since = this.#clock.now() - this.#life
    while (this.#oldest !== NONE && (this.#times[this.#oldest] as number) < since) this.#drop(this.#oldest)
  }

  #refuse(address: Uint8Array): false {
    this.#refused++
    const from = addressOf(fromCompact(address))
    this.#warnings.warn('announcements of other nodes refused: there is no room', { from, records: this.#size })
    return false
  }

  /** A digest that no node has room for is found by nobody, which costs a pull from upstream. */
  #warnIfNear(): void {
    const isNear = this.#size > this.maxSize * NEAR
    if (isNear && !this.#wasNear)
      this.#log.warn('the limit of stored records is near', { records: this.#size, limit: this.maxSize })
    this.#wasNear = isNear
  }

  /** Makes a slot the youngest. */
  #link(slot: number): void {
    this.#older[slot] = this.#youngest
    this.#younger[slot] = NONE
    if (this.#youngest === NONE) this.#oldest = slot
    else this.#younger[this.#youngest] = slot
    this.#youngest = slot
  }

  #unlink(slot: number): void {
    const [older, younger] = [this.#older[slot] as number, this.#younger[slot] as number]
    if (older === NONE) this.#oldest = younger
    else this.#younger[older] = younger
    if (younger === NONE) this.#youngest = older
    else this.#older[younger] = older
  }

  #grow(): void {
    const slots = Math.ceil(this.#next.length * GROWTH)
    const grown = <T extends { set(from: T): void }>(to: T, from: T): T => {
      to.set(from)
      return to
    }
    this.#bytes = grown(new Uint8Array(slots * COMPACT_LENGTH), this.#bytes)
    this.#topics = grown(new Uint8Array(slots * TOPIC_LENGTH), this.#topics)
    this.#next = grown(new Int32Array(slots), this.#next)
    this.#times = grown(new Float64Array(slots), this.#times)
    this.#younger = grown(new Int32Array(slots), this.#younger)
    this.#older = grown(new Int32Array(slots), this.#older)
    if (this.#heads.length >= slots) return
    this.#heads = new Int32Array(this.#heads.length * 2).fill(NONE)
    for (let slot = this.#oldest; slot !== NONE; slot = this.#younger[slot] as number) this.#hang(slot)
  }
}

/** Whether so many bytes from a place on are those that another array begins with. */
function startsWith(bytes: Uint8Array, place: number, others: Uint8Array, length: number): boolean {
  let at = 0
  while (at < length && bytes[place + at] === others[at]) at++
  return at === length
}
