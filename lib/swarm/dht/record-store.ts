import type { Logger } from '../../observe/log.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'

/** Milliseconds for which a node keeps a record that is not announced again. */
export const RECORD_LIFE = 30 * 60_000
/** Records at most, of 230 bytes each. In a swarm where each node holds 60,000 digests, the fullest node reaches it. */
const MAX_SIZE = 1_048_576
/**
 * Records of one topic at most. A lookup is answered with 20 of them, and the records of what all nodes of a cluster hold would
 * otherwise fill the memory of eight of them.
 */
const MOST_OF_TOPIC = 1_000
/** Bytes of a record at most: a public key, a count, and 3 addresses of 6 bytes each. */
const RECORD_LENGTH = 51
const KEY_LENGTH = 32
const FIRST_SLOTS = 1_024
const GROWTH = 1.5
/** Part of the limit beyond which a warning says that it is near. */
const NEAR = 0.8
/** Milliseconds from one warning of dropped records to the next. */
const WARNING_PAUSE = 60_000
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
 * What a node of the DHT keeps for others: the records of each topic, all for the same time. It replaces hyperdht's own cache,
 * which needs several objects and some 2 KiB for a record, and drops half of all records at once when it is full. Here a
 * record is a slot of some arrays, 230 bytes with its topic, and when the store is full the oldest one makes room.
 */
export class RecordStore {
  /** Records at most. */
  readonly maxSize: number
  readonly #log: Logger
  readonly #life: number
  readonly #mostOfTopic: number
  readonly #random: () => number
  readonly #clock: Clock
  /** The first slot of each topic; the others follow by `next`, which also links the free ones. */
  readonly #topics = new Map<string, number>()
  #bytes = new Uint8Array(FIRST_SLOTS * RECORD_LENGTH)
  #lengths = new Uint8Array(FIRST_SLOTS)
  #next = new Int32Array(FIRST_SLOTS)
  /** When a record was stored last. */
  #times = new Float64Array(FIRST_SLOTS)
  /** Slots in the order of their times. */
  #younger = new Int32Array(FIRST_SLOTS)
  #older = new Int32Array(FIRST_SLOTS)
  readonly #topicOf: string[] = []
  #oldest = NONE
  #youngest = NONE
  #free = NONE
  #used = 0
  #size = 0
  #dropped = 0
  #wasNear = false
  /** How many dropped records the last warning has counted, and when that was. */
  #told = 0
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(
    { log, clock = systemClock, random = Math.random }: RecordStoreDependencies,
    { life = RECORD_LIFE, maxSize = MAX_SIZE, mostOfTopic = MOST_OF_TOPIC }: RecordStoreOptions = {},
  ) {
    this.maxSize = maxSize
    this.#log = log
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

  /** Records dropped before their time so far, for want of room. */
  get dropped(): number {
    return this.#dropped
  }

  /**
   * Keeps a record, or keeps it for longer.
   *
   * @param record begins with the public key, of which each topic has one record
   * @throws {RangeError} for one of another length than hyperdht's
   */
  add(topic: string, _publicKey: Uint8Array, record: Uint8Array): void {
    if (record.length > RECORD_LENGTH || record.length < KEY_LENGTH) {
      throw new RangeError(`expected a record of ${KEY_LENGTH} to ${RECORD_LENGTH} bytes, got ${record.length}`)
    }
    this.#expire()
    let slot = this.#slotOf(topic, record)
    if (slot === undefined) slot = this.#take(topic)
    else this.#unlink(slot)
    if (slot === undefined) return
    this.#bytes.set(record, slot * RECORD_LENGTH)
    this.#lengths[slot] = record.length
    this.#times[slot] = this.#clock.now()
    this.#link(slot)
    this.#warn()
  }

  remove(topic: string, publicKey: Uint8Array): void {
    const slot = this.#slotOf(topic, publicKey)
    if (slot !== undefined) this.#drop(slot)
  }

  /** Up to `most` records of a topic, chosen at random and in random order: peers that are found first are asked first. */
  get(topic: string, most: number): Uint8Array[] {
    const since = this.#clock.now() - this.#life
    const chosen: number[] = []
    for (let slot = this.#topics.get(topic) ?? NONE; slot !== NONE; slot = this.#next[slot] as number) {
      if ((this.#times[slot] as number) >= since) chosen.push(slot)
    }
    // The first steps of a shuffle, as many as are wanted.
    const count = Math.min(most, chosen.length)
    for (let at = 0; at < count; at++) {
      const other = at + Math.floor(this.#random() * (chosen.length - at))
      const slot = chosen[other] as number
      chosen[other] = chosen[at] as number
      chosen[at] = slot
    }
    chosen.length = count
    return chosen.map((slot) => {
      const from = slot * RECORD_LENGTH
      return this.#bytes.slice(from, from + (this.#lengths[slot] as number))
    })
  }

  destroy(): void {
    this.#topics.clear()
    this.#topicOf.length = 0
    this.#oldest = this.#youngest = this.#free = NONE
    this.#used = this.#size = 0
  }

  /** The slot of the record of a topic that begins with that public key. */
  #slotOf(topic: string, record: Uint8Array): number | undefined {
    for (let slot = this.#topics.get(topic) ?? NONE; slot !== NONE; slot = this.#next[slot] as number) {
      const from = slot * RECORD_LENGTH
      let at = 0
      while (at < KEY_LENGTH && this.#bytes[from + at] === record[at]) at++
      if (at === KEY_LENGTH) return slot
    }
    return undefined
  }

  /** A free slot, now the first of its topic; `undefined` where the topic has enough. */
  #take(topic: string): number | undefined {
    let count = 0
    for (let slot = this.#topics.get(topic) ?? NONE; slot !== NONE; slot = this.#next[slot] as number) count++
    // Those that are there are alive and as good.
    if (count >= this.#mostOfTopic) return undefined
    while (this.#size >= this.maxSize && this.#oldest !== NONE) {
      this.#dropped++
      this.#drop(this.#oldest)
    }
    let slot = this.#free
    if (slot === NONE) {
      slot = this.#used++
      if (slot >= this.#lengths.length) this.#grow()
    } else {
      this.#free = this.#next[slot] as number
    }
    this.#size++
    this.#next[slot] = this.#topics.get(topic) ?? NONE
    this.#topics.set(topic, slot)
    this.#topicOf[slot] = topic
    return slot
  }

  #drop(slot: number): void {
    const topic = this.#topicOf[slot] as string
    const after = this.#next[slot] as number
    const first = this.#topics.get(topic) as number
    if (first === slot) {
      if (after === NONE) this.#topics.delete(topic)
      else this.#topics.set(topic, after)
    } else {
      let before = first
      while (this.#next[before] !== slot) before = this.#next[before] as number
      this.#next[before] = after
    }
    this.#unlink(slot)
    this.#topicOf[slot] = ''
    this.#next[slot] = this.#free
    this.#free = slot
    this.#size--
  }

  #expire(): void {
    const since = this.#clock.now() - this.#life
    while (this.#oldest !== NONE && (this.#times[this.#oldest] as number) < since) this.#drop(this.#oldest)
  }

  /** Says that the limit is near, and how many records were dropped: a digest that nobody finds costs a pull from upstream. */
  #warn(): void {
    const isNear = this.#size > this.maxSize * NEAR
    if (isNear && !this.#wasNear) {
      this.#log.warn('the limit of stored records is near, some may be lost', {
        records: this.#size,
        limit: this.maxSize,
      })
    }
    this.#wasNear = isNear
    const now = this.#clock.now()
    if (this.#dropped === this.#told || now - this.#toldAt < WARNING_PAUSE) return
    this.#log.warn('stored records were dropped before their time', { records: this.#dropped - this.#told })
    this.#told = this.#dropped
    this.#toldAt = now
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
    const slots = Math.ceil(this.#lengths.length * GROWTH)
    const grown = <T extends { set(from: T): void }>(to: T, from: T): T => {
      to.set(from)
      return to
    }
    this.#bytes = grown(new Uint8Array(slots * RECORD_LENGTH), this.#bytes)
    this.#lengths = grown(new Uint8Array(slots), this.#lengths)
    this.#next = grown(new Int32Array(slots), this.#next)
    this.#times = grown(new Float64Array(slots), this.#times)
    this.#younger = grown(new Int32Array(slots), this.#younger)
    this.#older = grown(new Int32Array(slots), this.#older)
  }
}
