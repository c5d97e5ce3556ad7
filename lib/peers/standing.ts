import type { Clock } from '../platform/clock.ts'
import type { Pace } from './pace.ts'
import { TIMES } from './policy.ts'

/**
 * Why a peer failed. `unreachable`: it refused or closed the connection, which costs no time to find out again. `silent`: it
 * sent no answer or no byte in time, which costs that time. `invalid`: its answer cannot be right, or lacks the proof of the
 * swarm key.
 */
export type PeerFailure = 'unreachable' | 'silent' | 'invalid'

type State =
  /** Nothing counts against the peer. */
  | { readonly name: 'open' }
  /** The peer works but has too much to do, so it is asked last. */
  | { readonly name: 'busy'; readonly until: number }
  /** The peer has failed and is not asked until then. After another failure in a row it is aside for longer. */
  | { readonly name: 'aside'; readonly until: number; readonly why: PeerFailure }

const OPEN: State = { name: 'open' }
/** Weight of the newest measurement in a peer's own average. */
const WEIGHT = 0.3

/**
 * What this node knows about one peer, as a machine of three states. In any state the peer may also be mute, which means that
 * it sent heads whose bodies did not come. Then it is asked last, and its heads are no signs of life, until a byte comes or
 * Hyperswarm connects.
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
 * Failures while the peer is aside count as one failure, and not as many in a row. A sign of life is an answer or a byte a
 * moment ago, or a standing Hyperswarm connection, unless that has been the only sign for long.
 */
export class Standing {
  /** Whether one of the peer's answers proved the swarm key. */
  proven = false
  /** Whether a Hyperswarm connection to it stands. */
  isConnected = false
  /** Whether it sends heads without bytes, as far as this node knows. */
  isMute = false
  /** When the peer last sent a byte of a body, for any request of this node. */
  gaveAt = Number.NEGATIVE_INFINITY
  /** Milliseconds that its heads take, on average. */
  headMs: number | undefined
  /** Bytes per millisecond that it gives, on average. */
  rate: number | undefined
  /** Its last failure, however long ago, and when that was. */
  failure: { readonly why: PeerFailure; readonly at: number } | undefined
  readonly #clock: Clock
  readonly #pace: Pace
  #state: State = OPEN
  /** How many times in a row it was put aside. */
  #failures = 0
  #heardAt = Number.NEGATIVE_INFINITY
  /** When a request first waited for it in vain since its last sign of life. */
  #silentSince: number | undefined

  /** @param pace also gets the measurements of this peer */
  constructor(clock: Clock, pace: Pace) {
    this.#clock = clock
    this.#pace = pace
  }

  /** The failure for which it is, or was last, aside; `undefined` once it has given a sign of life again. */
  get lastFailure(): PeerFailure | undefined {
    return this.#state.name === 'aside' ? this.#state.why : undefined
  }

  /** Until when it is not asked, in milliseconds of the clock; in the past if it may be asked. */
  get asideUntil(): number {
    return this.#state.name === 'aside' ? this.#state.until : 0
  }

  get isBusy(): boolean {
    return this.#state.name === 'busy' && this.#state.until > this.#now
  }

  get isAlive(): boolean {
    return this.isConnected || (this.lastFailure === undefined && this.#now - this.#heardAt < TIMES.alive)
  }

  /** Whether it is worth waiting for a late answer. */
  get mayAnswer(): boolean {
    if (this.#now - this.#heardAt < TIMES.signOfLife) return true
    return this.isConnected && this.#silentSince !== undefined && this.#now - this.#silentSince < TIMES.connectedWait
  }

  /** Call this when the peer has sent the head of an answer, after `headMs`, and proved the swarm key. */
  answered(headMs: number): void {
    this.proven = true
    this.#pace.addHead(headMs)
    this.headMs = average(this.headMs, headMs)
    if (this.isMute) return
    this.#heard()
    this.#failures = 0
    if (this.#state.name === 'aside') this.#state = OPEN
  }

  /**
   * Call this if another peer answered first. This peer needs at least `waitedMs`; without that its average would look too
   * good.
   */
  outrun(waitedMs: number): void {
    this.headMs = Math.max(average(this.headMs, waitedMs), this.headMs ?? 0)
    this.#pace.addHead(waitedMs)
  }

  /** Call this when the peer has sent a byte of a body: it is not dead, even if it does not answer other requests. */
  gave(): void {
    this.gaveAt = this.#now
    this.isMute = false
    this.#heard()
  }

  /** Call this when the peer has sent `bytes`, one at least, in `ms` milliseconds. */
  moved(bytes: number, ms: number): void {
    const rate = bytes / Math.max(ms, 1)
    this.rate = average(this.rate, rate)
    this.#pace.addRate(rate)
  }

  /** Call this if the peer has too much to do (503). It comes last for the milliseconds that it asks for. */
  busy(ms: number): void {
    if (!this.isMute) this.#heard()
    this.#beBusy(Math.min(Math.max(ms, 0), TIMES.longestBusy))
  }

  /**
   * Call this if the peer refused, was silent or sent a wrong answer. It is put aside, longer each time in a row. A silent peer
   * that may only be busy comes last for a while instead, because it may be the only one.
   *
   * @returns whether the peer may only be busy
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
   * Call this if a body ended or stood still before its first byte. After that, heads no longer count for the peer: a peer that
   * sends nothing but heads would win every race and hold up every transfer.
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

  /** Call this when a Hyperswarm connection to the peer has opened. Earlier failures no longer count. */
  connected(): void {
    this.isConnected = true
    this.#silentSince = undefined
    this.#open()
  }

  /** Call this when the last Hyperswarm connection to the peer has ended. */
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
