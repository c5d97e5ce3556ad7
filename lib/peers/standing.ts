import { TIMES } from './policy.ts'

/**
 * Why a peer failed. `unreachable`: it refused the connection or closed it, which costs nothing to find out again.
 * `silent`: no answer or no byte in time, which costs that time. `invalid`: an answer that cannot be right, or without
 * the proof of the swarm key.
 */
export type PeerFailure = 'unreachable' | 'silent' | 'invalid'

/** Heads came and their bodies stood still: since when, and until when that is remembered. */
interface Withheld {
  readonly since: number
  readonly until: number
}

type State =
  /** Nothing stands against it. */
  | { readonly name: 'open' }
  /** It works and has too much to do: it is asked last. */
  | { readonly name: 'busy'; readonly until: number }
  /** It gives heads and no bytes: it is asked last, and heads do not speak for it. */
  | ({ readonly name: 'withholding' } & Withheld)
  /** It has failed: it is not asked. Afterwards it may be tried, and the next failure in a row lasts longer. */
  | {
      readonly name: 'aside'
      readonly until: number
      readonly why: PeerFailure
      readonly withheld: Withheld | undefined
    }

const OPEN: State = { name: 'open' }
/** Weight of the newest measurement in a peer's own average. */
const WEIGHT = 0.3

/**
 * What is known of one peer, as a machine of four states. All times are milliseconds of the owner's clock.
 *
 * | what happens             | open        | busy  | withholding | aside, silent | aside, unreachable or invalid |
 * | ------------------------ | ----------- | ----- | ----------- | ------------- | ----------------------------- |
 * | a head                   |             |       |             | open, unless it withheld before | open        |
 * | a byte of a body         |             |       | open        | open          |                               |
 * | 503                      | busy        | busy  |             | busy, unless it withheld before |             |
 * | silence, signs of life   | busy        | busy  |             |               |                               |
 * | silence, no signs        | aside       | aside | aside       | aside         | aside, silent                 |
 * | refused, nonsense        | aside       | aside | aside       | aside         | aside                         |
 * | a body stands still before its first byte, signs of life | withholding | withholding | withholding | | |
 * | the same without signs, or it breaks off | aside | aside | aside | aside    | aside                         |
 * | Hyperswarm connects      | open        | open  | open        | open          | open                          |
 * | its last connection ends | aside       | aside | aside       | aside         | aside, silent                 |
 * | the time is over         |             | open  | open        | withholding if it did before, or as open      ||
 *
 * Failures while it is aside are one failure of one peer, not many in a row. A sign of life is an answer or a byte a moment
 * ago, or a Hyperswarm connection that stands, if that has not for long been the only one.
 */
export class Standing {
  /** Whether one of its answers proved the swarm key. */
  proven = false
  /** Milliseconds that its heads take, on average. */
  headMs: number | undefined
  /** Bytes per millisecond that it gives, on average. */
  rate: number | undefined
  #state: State = OPEN
  /** Times aside in a row. */
  #failures = 0
  #isConnected = false
  #aliveUntil = 0
  #heardAt = Number.NEGATIVE_INFINITY
  #gaveAt = Number.NEGATIVE_INFINITY
  /** When it was first waited for in vain since it was last heard of. */
  #silentSince: number | undefined

  /** Whether a Hyperswarm connection to it stands. */
  get isConnected(): boolean {
    return this.#isConnected
  }

  /** The failure for which it is, or was last, aside; `undefined` once it has been heard of again. */
  get lastFailure(): PeerFailure | undefined {
    return this.#state.name === 'aside' ? this.#state.why : undefined
  }

  /** When it gave the last byte of a body. */
  get gaveAt(): number {
    return this.#gaveAt
  }

  asideUntil(now: number): number {
    return this.#state.name === 'aside' ? this.#state.until : now
  }

  isBusy(now: number): boolean {
    return this.#state.name === 'busy' && this.#state.until > now
  }

  /** Whether it gives heads without bytes, for all that is known. */
  isWithholding(now: number): boolean {
    return this.#withheld(now) !== undefined
  }

  isAlive(now: number): boolean {
    return this.#isConnected || this.#aliveUntil > now
  }

  /** Whether a late answer is worth waiting for. */
  mayAnswer(now: number): boolean {
    if (now - this.#heardAt < TIMES.signOfLife) return true
    return this.#isConnected && this.#silentSince !== undefined && now - this.#silentSince < TIMES.connectedWait
  }

  /** It gave the head of an answer after that time. */
  answered(headMs: number, now: number): void {
    this.#heard(now)
    if (!this.isWithholding(now)) {
      this.#failures = 0
      if (this.#state.name === 'aside') this.#state = OPEN
    }
    this.#aliveUntil = now + TIMES.alive
    this.headMs = average(this.headMs, headMs)
  }

  /** It had not answered after that time, and perhaps never would have: its time is at least that long. */
  waitedFor(ms: number): void {
    this.headMs = Math.max(average(this.headMs, ms), this.headMs ?? 0)
  }

  /** It gave a byte of a body. */
  gave(now: number): void {
    this.#gaveAt = now
    if (this.#state.name === 'withholding') this.#open()
    else if (this.#state.name === 'aside') this.#state = { ...this.#state, withheld: undefined }
    this.#heard(now)
  }

  moved(rate: number): void {
    this.rate = average(this.rate, rate)
  }

  /** It refuses requests for that many milliseconds, as it says. */
  busy(ms: number, now: number): void {
    this.#heard(now)
    this.#beBusy(Math.min(Math.max(ms, 0), TIMES.longestBusy), now)
  }

  /**
   * It was waited for in vain.
   *
   * @returns whether it may only be busy; if not, it is aside
   */
  silent(now: number): boolean {
    this.#silentSince ??= now
    const isBusy =
      now - this.#heardAt < TIMES.heard || (this.#isConnected && now - this.#silentSince < TIMES.connectedSilence)
    if (isBusy) this.#beBusy(TIMES.silentBusy, now)
    else this.putAside('silent', now)
    return isBusy
  }

  /**
   * A body ended, or stood still, before its first byte. Heads speak for a peer no longer than a standing connection does:
   * one that gives nothing else would win every race and hold up every transfer.
   */
  withheld(why: PeerFailure, now: number): void {
    const { since } = this.#withheld(now) ?? { since: now }
    const withheld = { since, until: now + TIMES.withheld }
    const isAlive = this.#isConnected || now - this.#heardAt < TIMES.heard
    const isBusy = now - this.#gaveAt < TIMES.heard || (isAlive && now - since < TIMES.connectedSilence)
    if (why !== 'silent' || !isBusy) this.putAside(why, now, withheld)
    else if (this.#state.name === 'aside') this.#state = { ...this.#state, withheld }
    else this.#state = { name: 'withholding', ...withheld }
  }

  putAside(why: PeerFailure, now: number, withheld = this.#withheld(now)): void {
    this.#aliveUntil = 0
    if (this.#state.name === 'aside' && this.#state.until > now) {
      this.#state = { ...this.#state, why: why === 'silent' ? why : this.#state.why, withheld }
      return
    }
    const until = now + Math.min(TIMES.firstAside * 2 ** this.#failures, TIMES.longestAside)
    this.#failures++
    this.#state = { name: 'aside', until, why, withheld }
  }

  /** A Hyperswarm connection to it has opened: what was held against it before is over. */
  connected(): void {
    this.#isConnected = true
    this.#silentSince = undefined
    this.#open()
  }

  /** Its last Hyperswarm connection has ended. */
  disconnected(now: number): void {
    this.#isConnected = false
    this.putAside('silent', now)
  }

  #withheld(now: number): Withheld | undefined {
    const withheld = this.#state.name === 'aside' ? this.#state.withheld : this.#state
    return withheld !== undefined && 'since' in withheld && withheld.until > now ? withheld : undefined
  }

  #heard(now: number): void {
    this.#heardAt = now
    this.#silentSince = undefined
    if (this.lastFailure === 'silent' && !this.isWithholding(now)) this.#open()
  }

  #beBusy(ms: number, now: number): void {
    if (this.asideUntil(now) > now || this.isWithholding(now)) return
    const before = this.#state.name === 'busy' ? this.#state.until : now
    this.#state = { name: 'busy', until: Math.max(before, now + ms) }
  }

  #open(): void {
    this.#state = OPEN
    this.#failures = 0
  }
}

function average(before: number | undefined, value: number): number {
  return before === undefined ? value : before + (value - before) * WEIGHT
}
