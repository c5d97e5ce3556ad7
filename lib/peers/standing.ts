import type { Clock } from '../platform/clock.ts'
import type { Pace } from './pace.ts'
import { TIMES } from './policy.ts'

/**
 * Why a peer failed. `unreachable`: it refused the connection or closed it, which costs nothing to find out again.
 * `silent`: no answer or no byte in time, which costs that time. `invalid`: an answer that cannot be right, or without
 * the proof of the swarm key.
 */
export type PeerFailure = 'unreachable' | 'silent' | 'invalid'

type State =
  /** Nothing stands against it. */
  | { readonly name: 'open' }
  /** It works and has too much to do: it is asked last. */
  | { readonly name: 'busy'; readonly until: number }
  /** It has failed: it is not asked. Afterwards it may be tried, and the next failure in a row lasts longer. */
  | { readonly name: 'aside'; readonly until: number; readonly why: PeerFailure }

const OPEN: State = { name: 'open' }
/** Weight of the newest measurement in a peer's own average. */
const WEIGHT = 0.3

/**
 * What is known of one peer, as a machine of three states. Beside its state it may be mute: it gave heads whose bodies did not
 * come. Then it is asked last, and its heads are no signs of life, until a byte comes or Hyperswarm connects.
 *
 * | what happens                    | open  | busy      | aside, silent | aside, unreachable or invalid |
 * | ------------------------------- | ----- | --------- | ------------- | ----------------------------- |
 * | a head, unless it is mute       |       |           | open          | open                          |
 * | a byte of a body                |       |           | open          |                               |
 * | 503                             | busy  | as before | busy          |                               |
 * | silence, signs of life          | busy  | as before |               |                               |
 * | silence, no signs               | aside | aside     | aside         | aside, silent                 |
 * | refused, nonsense               | aside | aside     | aside         | aside                         |
 * | Hyperswarm connects             | open  | open      | open          | open                          |
 * | its last connection ends        | aside | aside     | aside         | aside, silent                 |
 * | the time is over                |       | open      | as open       | as open                       |
 *
 * Failures while it is aside are one failure of one peer, not many in a row. A sign of life is an answer or a byte a moment
 * ago, or a Hyperswarm connection that stands, if that has not for long been the only one.
 */
export class Standing {
  /** Whether one of its answers proved the swarm key. */
  proven = false
  /** Whether a Hyperswarm connection to it stands. */
  isConnected = false
  /** Whether it gives heads without bytes, for all that is known. */
  isMute = false
  /** When it gave the last byte of a body, to any request of this node. */
  gaveAt = Number.NEGATIVE_INFINITY
  /** Milliseconds that its heads take, on average. */
  headMs: number | undefined
  /** Bytes per millisecond that it gives, on average. */
  rate: number | undefined
  /** Its last failure, also one that is long over, and when that was. */
  failure: { readonly why: PeerFailure; readonly at: number } | undefined
  readonly #clock: Clock
  readonly #pace: Pace
  #state: State = OPEN
  /** Times aside in a row. */
  #failures = 0
  #heardAt = Number.NEGATIVE_INFINITY
  /** When it was first waited for in vain since it was last heard of. */
  #silentSince: number | undefined

  /** @param pace learns what this peer needs, too */
  constructor(clock: Clock, pace: Pace) {
    this.#clock = clock
    this.#pace = pace
  }

  /** The failure for which it is, or was last, aside; `undefined` once it has been heard of again. */
  get lastFailure(): PeerFailure | undefined {
    return this.#state.name === 'aside' ? this.#state.why : undefined
  }

  /** Until when it is not asked, in milliseconds of the clock; a time that is over if it may be asked. */
  get asideUntil(): number {
    return this.#state.name === 'aside' ? this.#state.until : 0
  }

  get isBusy(): boolean {
    return this.#state.name === 'busy' && this.#state.until > this.#now
  }

  get isAlive(): boolean {
    return this.isConnected || (this.lastFailure === undefined && this.#now - this.#heardAt < TIMES.alive)
  }

  /** Whether a late answer is worth waiting for. */
  get mayAnswer(): boolean {
    if (this.#now - this.#heardAt < TIMES.signOfLife) return true
    return this.isConnected && this.#silentSince !== undefined && this.#now - this.#silentSince < TIMES.connectedWait
  }

  /** It gave the head of an answer, which it needed that long for, and proved the swarm key. */
  answered(headMs: number): void {
    this.proven = true
    this.#pace.addHead(headMs)
    this.headMs = average(this.headMs, headMs)
    if (this.isMute) return
    this.#heard()
    this.#failures = 0
    if (this.#state.name === 'aside') this.#state = OPEN
  }

  /** It had not answered yet when another one did. Its time is at least that long; leaving it out would flatter it. */
  outrun(waitedMs: number): void {
    this.headMs = Math.max(average(this.headMs, waitedMs), this.headMs ?? 0)
    this.#pace.addHead(waitedMs)
  }

  /** It gave a byte of a body: whatever else it does not answer, it is not dead. */
  gave(): void {
    this.gaveAt = this.#now
    this.isMute = false
    this.#heard()
  }

  /** It gave that many bytes in so many milliseconds. */
  moved(bytes: number, ms: number): void {
    const rate = bytes / Math.max(ms, 1)
    this.rate = average(this.rate, rate)
    this.#pace.addRate(rate)
  }

  /** It has too much to do (503): it comes last for the time that it asks for, in milliseconds. */
  busy(ms: number): void {
    if (!this.isMute) this.#heard()
    this.#beBusy(Math.min(Math.max(ms, 0), TIMES.longestBusy))
  }

  /**
   * It refused, was silent or answered nonsense: it is put aside, longer each time in a row. A silent peer that may only be
   * busy comes last instead, for a while: it may be the only one.
   *
   * @returns whether it may only be busy
   */
  failed(why: PeerFailure): boolean {
    const now = this.#now
    this.failure = { why, at: now }
    if (why === 'silent') this.#silentSince ??= now
    const isBusy =
      why === 'silent' &&
      (now - this.#heardAt < TIMES.heard ||
        (this.isConnected && now - (this.#silentSince ?? now) < TIMES.connectedSilence))
    if (isBusy) this.#beBusy(TIMES.silentBusy)
    else this.#putAside(why)
    return isBusy
  }

  /**
   * A body ended, or stood still, before its first byte. Heads speak for a peer no longer: one that gives nothing else would win
   * every race and hold up every transfer.
   */
  withheld(why: PeerFailure): void {
    this.isMute = true
    this.failed(why)
  }

  #putAside(why: PeerFailure): void {
    if (this.#state.name === 'aside' && this.#state.until > this.#now) {
      if (why === 'silent') this.#state = { ...this.#state, why }
      return
    }
    const until = this.#now + Math.min(TIMES.firstAside * 2 ** this.#failures, TIMES.longestAside)
    this.#failures++
    this.#state = { name: 'aside', until, why }
  }

  /** A Hyperswarm connection to it has opened: what was held against it before is over. */
  connected(): void {
    this.isConnected = true
    this.#silentSince = undefined
    this.#open()
  }

  /** Its last Hyperswarm connection has ended. */
  disconnected(): void {
    this.isConnected = false
    this.failure = { why: 'silent', at: this.#now }
    this.#putAside('silent')
  }

  get #now(): number {
    return this.#clock.now()
  }

  #heard(): void {
    this.#heardAt = this.#now
    this.#silentSince = undefined
    if (this.lastFailure === 'silent') this.#open()
  }

  #beBusy(ms: number): void {
    if (this.asideUntil > this.#now) return
    const before = this.#state.name === 'busy' ? this.#state.until : this.#now
    this.#state = { name: 'busy', until: Math.max(before, this.#now + ms) }
  }

  #open(): void {
    this.#state = OPEN
    this.#failures = 0
    this.isMute = false
  }
}

function average(before: number | undefined, value: number): number {
  return before === undefined ? value : before + (value - before) * WEIGHT
}
