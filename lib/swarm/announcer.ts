import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'

/** What the announcer does to the swarm. Both may be repeated, and throw when no node could be reached. */
export interface Announcements {
  announce(key: Key): Promise<void>
  unannounce(key: Key): Promise<void>
}

export interface AnnouncerOptions {
  /** How many announcements are under way at a time. 16 keep two cores busy (measured: 3.4 ms of CPU each). */
  readonly concurrency?: number
  /** Milliseconds after which an announcement is repeated, at the latest; less up to a fifth of it by chance. */
  readonly refreshPeriod?: number
  /** Milliseconds until an announcement that failed is tried again, at first and at most. */
  readonly retryDelay?: readonly [first: number, most: number]
  /** Milliseconds between looks for what is due. */
  readonly tick?: number
}

/** Half of the age that DHT nodes keep a record at least: two thirds of `maxAge`, 20 minutes by default. */
const REFRESH_PERIOD = (20 * 60_000 * 2) / 3 / 2
const CONCURRENCY = 16
const RETRY_DELAY = [1_000, 60_000] as const
const TICK = 1_000
/** Part of the period by which a refresh may come early, so that what was announced together drifts apart. */
const JITTER = 0.2

interface Entry {
  /** Whether the key is to be announced, or its announcement to be taken back. */
  wanted: boolean
  busy: boolean
  /** Whether what is wanted has reached the swarm since it last changed. */
  done: boolean
  /** When the next announcement is due, on the clock of `performance.now()`. */
  due: number
  failures: number
}

/**
 * Keeps a set of keys announced: new ones and withdrawals at once, the others again before they expire, those that failed
 * after a growing delay.
 */
export class Announcer {
  readonly #swarm: Announcements
  readonly #log: Logger
  readonly #options: Required<AnnouncerOptions>
  readonly #entries = new Map<Key, Entry>()
  /** Keys that wait for a place, in the order in which they get one: withdrawals and new keys before refreshes. */
  readonly #urgent = new Set<Key>()
  readonly #refresh = new Set<Key>()
  readonly #timer: ReturnType<typeof setInterval>
  #running = 0
  #closed = false
  #waiters: (() => void)[] = []

  constructor(swarm: Announcements, log: Logger, options: AnnouncerOptions = {}) {
    this.#swarm = swarm
    this.#log = log
    this.#options = {
      concurrency: options.concurrency ?? CONCURRENCY,
      refreshPeriod: options.refreshPeriod ?? REFRESH_PERIOD,
      retryDelay: options.retryDelay ?? RETRY_DELAY,
      tick: options.tick ?? TICK,
    }
    this.#timer = setInterval(() => this.#queueDue(), this.#options.tick)
  }

  /** How many keys are kept announced. */
  get size(): number {
    let size = 0
    for (const entry of this.#entries.values()) if (entry.wanted) size++
    return size
  }

  advertise(keys: Iterable<Key>): void {
    for (const key of keys) this.#want(key, true)
    this.#fill()
  }

  withdraw(keys: Iterable<Key>): void {
    for (const key of keys) if (this.#entries.has(key)) this.#want(key, false)
    this.#fill()
  }

  /** Announces everything again, as places allow: the network around the topics has changed. */
  refreshAll(): void {
    for (const [key, entry] of this.#entries) if (entry.wanted && !entry.busy) this.#refresh.add(key)
    this.#fill()
  }

  /**
   * Waits until everything that is wanted has reached the swarm.
   *
   * @throws the signal's reason if it aborts first
   */
  async settled(signal: AbortSignal): Promise<void> {
    while (this.#unsettled()) {
      signal.throwIfAborted()
      await new Promise<void>((resolve, reject) => {
        const aborted = () => reject(signal.reason)
        signal.addEventListener('abort', aborted, { once: true })
        this.#waiters.push(() => {
          signal.removeEventListener('abort', aborted)
          resolve()
        })
      })
    }
  }

  /** Forgets all keys; announcements that are under way may still finish, but nothing new begins. */
  close(): void {
    this.#closed = true
    clearInterval(this.#timer)
    this.#urgent.clear()
    this.#refresh.clear()
    this.#entries.clear()
    this.#wake()
  }

  #unsettled(): boolean {
    for (const entry of this.#entries.values()) if (!entry.done) return true
    return false
  }

  #want(key: Key, wanted: boolean): void {
    if (this.#closed) return
    const entry = this.#entries.get(key)
    if (entry?.wanted === wanted) return
    if (entry === undefined) this.#entries.set(key, { wanted, busy: false, done: false, due: 0, failures: 0 })
    else Object.assign(entry, { wanted, done: false, failures: 0 })
    this.#refresh.delete(key)
    if (entry?.busy !== true) this.#urgent.add(key)
  }

  #queueDue(): void {
    const now = performance.now()
    for (const [key, entry] of this.#entries) {
      if (entry.busy || entry.due > now || this.#urgent.has(key)) continue
      if (entry.done) this.#refresh.add(key)
      else this.#urgent.add(key)
    }
    this.#fill()
  }

  #fill(): void {
    while (this.#running < this.#options.concurrency) {
      const key = this.#take()
      if (key === undefined) return
      this.#running++
      // #run handles its own failures: nothing that it awaits can reject it.
      void this.#run(key).finally(() => {
        this.#running--
        this.#fill()
        this.#wake()
      })
    }
  }

  /** The next key to work on; never one that is under way, whose end decides what it needs after that. */
  #take(): Key | undefined {
    for (const queue of [this.#urgent, this.#refresh]) {
      for (const key of queue) {
        this.#urgent.delete(key)
        this.#refresh.delete(key)
        if (this.#entries.get(key)?.busy === false) return key
      }
    }
    return undefined
  }

  async #run(key: Key): Promise<void> {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    const { wanted } = entry
    entry.busy = true
    try {
      await (wanted ? this.#swarm.announce(key) : this.#swarm.unannounce(key))
      this.#succeeded(key, entry, wanted)
    } catch (error) {
      this.#failed(key, entry, wanted, error)
    } finally {
      entry.busy = false
    }
  }

  #succeeded(key: Key, entry: Entry, announced: boolean): void {
    if (this.#closed) return
    if (entry.wanted !== announced) {
      this.#urgent.add(key)
      return
    }
    if (!announced) {
      this.#entries.delete(key)
      return
    }
    entry.done = true
    entry.failures = 0
    entry.due = performance.now() + this.#options.refreshPeriod * (1 - Math.random() * JITTER)
  }

  #failed(key: Key, entry: Entry, announced: boolean, error: unknown): void {
    if (this.#closed) return
    entry.done = false
    const changed = entry.wanted !== announced
    // What is wanted by now has not failed yet.
    if (changed) this.#urgent.add(key)
    else {
      const [first, most] = this.#options.retryDelay
      entry.due = performance.now() + Math.min(first * 2 ** entry.failures, most)
      entry.failures++
    }
    this.#log.warn('announcement failed', { key, withdraw: !announced, failures: entry.failures, error })
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }
}
