import { PeerError } from '../peers/error.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import { StallError, type Watchdog } from './watchdog.ts'

/** A peer's body, and who watches it. */
export interface WatchedBody {
  readonly peer: Peer
  readonly body: ByteSource
  readonly watchdog: Watchdog
}

export interface ResumeDependencies {
  /**
   * The rest from that offset on; `undefined` when there is nobody for it.
   *
   * @param isReplacement whether there is a peer that would go on, but was told to be too slow
   */
  readonly reopen: (offset: number, signal: AbortSignal, isReplacement: boolean) => Promise<WatchedBody | undefined>
  /** Whether a peer that has given no byte of this body for so long is only slow. */
  readonly isOnlySlow: (from: WatchedBody, stall: StallError) => boolean
  /** Told that a peer's body broke off. */
  readonly onBreak: (from: WatchedBody, error: PeerError, offset: number) => void
  /** Told that a peer is too slow. What comes from `reopen` afterwards replaces it; if nothing does, it goes on. */
  readonly onSlow: (from: WatchedBody, offset: number) => void
  /** Told that another peer goes on. */
  readonly onResume: (to: WatchedBody, offset: number) => void
  /** Told when a peer has given all that it will. */
  readonly onDone: (from: WatchedBody) => void
}

/** After how many more slow windows, at most, a replacement is looked for again where there was none: every minute or so. */
const LONGEST_PATIENCE = 20

/**
 * The bytes from one offset to another, from one peer after the other: when a body breaks off, stalls or is too slow, the
 * next peer goes on at the exact offset. Ends with an error when there is no next one.
 */
export class ResumingSource implements ByteSource {
  readonly #dependencies: ResumeDependencies
  readonly #end: number
  readonly #stop = new AbortController()
  readonly #contributors = new Map<string, Peer>()
  #current: WatchedBody | undefined
  #offset: number
  #failure: PeerError | undefined
  /** After how many slow windows in a row a replacement is looked for. */
  #patience = 1

  /**
   * @param first gives the bytes from `start`; without it, `reopen` is asked for them
   * @param start offset of the first byte
   * @param end offset after the last one
   */
  constructor(dependencies: ResumeDependencies, first: WatchedBody | undefined, start: number, end: number) {
    this.#dependencies = dependencies
    this.#current = first
    this.#offset = start
    this.#end = end
    if (start === end) this.#finish()
  }

  /** Who gave at least one of the bytes so far. */
  get contributors(): readonly Peer[] {
    return [...this.#contributors.values()]
  }

  get offset(): number {
    return this.#offset
  }

  async next(): Promise<Uint8Array | undefined> {
    while (this.#offset < this.#end) {
      if (this.#stop.signal.aborted) throw new PeerError('cancelled')
      const from = this.#current ?? (await this.#resume())
      try {
        const chunk = await this.#take(from)
        const { slowWindows } = from.watchdog
        if (slowWindows >= this.#patience && this.#offset < this.#end) {
          const isReplaced = await this.#replace(from)
          // Others may come to have it; but they are not asked for it again and again.
          this.#patience = isReplaced ? 1 : slowWindows + Math.min(slowWindows, LONGEST_PATIENCE)
        }
        return chunk
      } catch (error) {
        if (this.#stop.signal.aborted || !(error instanceof PeerError)) throw error
        if (error instanceof StallError && this.#dependencies.isOnlySlow(from, error)) {
          await this.#replace(from)
          continue
        }
        this.#failure = error
        this.#drop()
        this.#dependencies.onBreak(from, error, this.#offset)
      }
    }
    return undefined
  }

  async cancel(): Promise<void> {
    this.#stop.abort()
    this.#drop()
  }

  async #take(from: WatchedBody): Promise<Uint8Array> {
    const chunk = await from.watchdog.next()
    const missing = this.#end - this.#offset
    if (chunk === undefined) throw new PeerError(`the body ended ${missing} bytes early`)
    if (chunk.length > missing) throw new PeerError('more bytes than declared', { failure: 'invalid' })
    this.#offset += chunk.length
    this.#contributors.set(addressOf(from.peer), from.peer)
    if (this.#offset === this.#end) this.#finish()
    return chunk
  }

  async #resume(): Promise<WatchedBody> {
    const next = await this.#open(false)
    if (next === undefined) {
      throw new PeerError(`no peer left for the bytes from ${this.#offset} on`, { cause: this.#failure })
    }
    return this.#goOnWith(next)
  }

  /** Changes to another peer if there is one. Until it has answered, the slow one stays. */
  async #replace(slow: WatchedBody): Promise<boolean> {
    this.#dependencies.onSlow(slow, this.#offset)
    const next = await this.#open(true)
    if (next === undefined) return false
    this.#drop()
    this.#goOnWith(next)
    return true
  }

  async #open(isReplacement: boolean): Promise<WatchedBody | undefined> {
    const next = await this.#dependencies.reopen(this.#offset, this.#stop.signal, isReplacement)
    if (!this.#stop.signal.aborted) return next
    await next?.body.cancel()
    throw new PeerError('cancelled')
  }

  #goOnWith(next: WatchedBody): WatchedBody {
    this.#current = next
    this.#dependencies.onResume(next, this.#offset)
    return next
  }

  /** The connection of a body that was read to its end is used again; so the body is not cancelled. */
  #finish(): void {
    const from = this.#current
    this.#current = undefined
    if (from !== undefined) this.#dependencies.onDone(from)
  }

  #drop(): void {
    const from = this.#current
    this.#finish()
    void from?.body.cancel()
  }
}
