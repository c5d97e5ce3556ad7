import type { Logger } from '../../observe/log.ts'

/** Milliseconds for which a node keeps a record that is not announced again. */
export const RECORD_LIFE = 30 * 60_000
/** How many records a node keeps: at first, and at most. Each takes 230 bytes; above the limit, the oldest makes room. */
export const MAX_RECORDS = [65_536, 1_048_576] as const
/** A part of the limit beyond which it is said that it is near. */
const NEAR = 0.8
/** What a node announces itself is a measure of what others do; some hold several times as much. */
const MARGIN = 4

/** The records that this node stores for others. */
export interface StoredRecords {
  readonly size: number
  maxSize: number
  /** Those that were dropped before their time so far, because there was no room. */
  readonly dropped: number
}

/** Keeps the limit above what the swarm can be expected to hold, and says so when even that is nearly reached. */
export class RecordLimit {
  readonly #log: Logger
  readonly #bounds: readonly [first: number, most: number]
  #wasNear = false
  #dropped = 0

  constructor(log: Logger, bounds: readonly [first: number, most: number] = MAX_RECORDS) {
    this.#log = log
    this.#bounds = bounds
  }

  /**
   * Sets the limit. In a swarm of equals each node stores as many records as it has announced itself.
   *
   * @param own how many records this node keeps at others
   */
  adjust(records: StoredRecords, own: number): void {
    const [first, most] = this.#bounds
    const wanted = Math.max(first, own * MARGIN, records.size * 2)
    // It only grows: shrinking would drop records, and they are announced again only after a while.
    records.maxSize = Math.max(records.maxSize, Math.min(wanted, most))
    const isNear = records.size > records.maxSize * NEAR
    if (isNear && !this.#wasNear) {
      this.#log.warn('the limit of stored records is near, some may be lost', {
        records: records.size,
        limit: records.maxSize,
      })
    }
    this.#wasNear = isNear
    if (records.dropped > this.#dropped) {
      this.#log.warn('stored records were dropped before their time', { records: records.dropped - this.#dropped })
    }
    this.#dropped = records.dropped
  }
}
