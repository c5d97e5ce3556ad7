/**
 * Why a peer failed. `unreachable`: it refused the connection or closed it, which costs nothing to find out again.
 * `silent`: no answer or no byte in time, which costs that time. `invalid`: an answer that cannot be right, or without
 * the proof of the swarm key.
 */
export type PeerFailure = 'unreachable' | 'silent' | 'invalid'

/** Milliseconds for which a peer is put aside after its first failure, and at most; doubled with each one in a row. */
export interface Probation {
  readonly first: number
  readonly longest: number
}

/** Longest that a peer's own word on being busy counts, in milliseconds: it must not put itself aside for good. */
const LONGEST_BUSY = 10_000
/** How long Hyperswarm's or an answer's word that a peer lives counts when peers are compared, in milliseconds. */
const ALIVE_TIME = 60_000
/**
 * How long after its last answer or byte a silent peer is taken for busy rather than dead, in milliseconds: longer than a
 * body may stand still by default (2 s), so that one that was given up is still asked for the rest if nobody else has it.
 */
const HEARD_TIME = 5_000
/**
 * How long a door may be silent while the Hyperswarm connection to its node stands, in milliseconds. A node that is dead or
 * stopped loses its connection sooner than this; beyond it the door itself is what does not work, a firewall between, say.
 */
const LONGEST_SILENCE = 10_000
/** How new a sign of life of a door must be for a request to be kept waiting for it, in milliseconds. */
const SIGN_OF_LIFE = 2_000
/**
 * For how long a door's silence keeps a request waiting while the connection to its node stands, in milliseconds: a busy
 * node's first answers to many requests at a time come late. One that is dead costs that long once.
 */
const CONNECTED_SILENCE = 5_000
/**
 * For how long it is remembered that bodies stood still before their first byte, in milliseconds, unless a byte comes: some
 * pulls long, so that it costs one of them a stall and not each of their blobs.
 */
const WITHHELD_TIME = 60_000
/** For how long a peer that is silent but not dead comes last, in milliseconds; longer than a rush of requests takes. */
const SILENT_BUSY = 1_000
/** Weight of the newest measurement in a peer's own average. */
const WEIGHT = 0.3

/** What is known of one peer's door. All times are milliseconds of the owner's clock. */
export class PeerRecord {
  proven = false
  /** Milliseconds that its heads take, on average. */
  headMs: number | undefined
  /** Bytes per millisecond that it gives, on average. */
  rate: number | undefined
  #isConnected = false
  #failures = 0
  #asideUntil = 0
  #lastFailure: PeerFailure | undefined
  #busyUntil = 0
  #aliveUntil = 0
  #heardAt = Number.NEGATIVE_INFINITY
  #gaveAt = Number.NEGATIVE_INFINITY
  /** Since it last gave a byte: the first and the last time that a body of it ended before its first one. */
  #withheld: { readonly since: number; readonly at: number } | undefined
  /** When it was first waited for in vain since it was last heard of. */
  #silentSince: number | undefined

  /** Whether a Hyperswarm connection to it stands. */
  get isConnected(): boolean {
    return this.#isConnected
  }

  get asideUntil(): number {
    return this.#asideUntil
  }

  /** The failure for which it is, or was last, put aside; `undefined` once it has been heard of again. */
  get lastFailure(): PeerFailure | undefined {
    return this.#lastFailure
  }

  isBusy(now: number): boolean {
    return this.#busyUntil > now
  }

  isAlive(now: number): boolean {
    return this.#aliveUntil > now
  }

  /** It refuses requests for that many milliseconds, as it says. */
  busy(ms: number, now: number): void {
    this.#busyUntil = now + Math.min(Math.max(ms, 0), LONGEST_BUSY)
    this.heard(now)
  }

  /** When its door gave the last byte of a body. */
  get gaveAt(): number {
    return this.#gaveAt
  }

  /** It gave a byte of a body, which is more than a sign of life. */
  gave(now: number): void {
    this.#gaveAt = now
    this.#withheld = undefined
    this.heard(now)
  }

  /** Whether it gives heads without bodies, for all that is known: then one more head proves nothing. */
  withholds(now: number): boolean {
    return this.#withheld !== undefined && now - this.#withheld.at < WITHHELD_TIME
  }

  /** A sign of life of its door, newer than any silence. */
  heard(now: number): void {
    this.#heardAt = now
    this.#silentSince = undefined
    if (this.#lastFailure === 'silent' && !this.withholds(now)) this.#forgive()
  }

  /** Whether there are signs that it works, newer than what it takes for one that has died to be known for it. */
  mayAnswer(now: number): boolean {
    if (now - this.#heardAt < SIGN_OF_LIFE) return true
    return this.#isConnected && this.#silentSince !== undefined && now - this.#silentSince < CONNECTED_SILENCE
  }

  /** It answered as it should, after that time. */
  answered(headMs: number, now: number): void {
    this.heard(now)
    if (!this.withholds(now)) this.#forgive()
    this.#aliveUntil = now + ALIVE_TIME
    this.headMs = average(this.headMs, headMs)
  }

  /** It had not answered after that time, and perhaps never would have. */
  waitedFor(ms: number): void {
    this.headMs = Math.max(average(this.headMs, ms), this.headMs ?? 0)
  }

  moved(rate: number): void {
    this.rate = average(this.rate, rate)
  }

  /**
   * It was waited for in vain. Comes last for a while if it seems to be busy: its door was heard of a moment ago, or the
   * connection to its node stands and has not for long been the only sign of it.
   *
   * @returns whether it seems to be busy; if not, it is put aside
   */
  silent(now: number, probation: Probation): boolean {
    this.#silentSince ??= now
    const isBusy = now - this.#heardAt < HEARD_TIME || (this.#isConnected && now - this.#silentSince < LONGEST_SILENCE)
    if (isBusy) this.#busyUntil = Math.max(this.#busyUntil, now + SILENT_BUSY)
    else this.putAside('silent', now, probation)
    return isBusy
  }

  /**
   * A body of it ended, or stood still, before its first byte. As with {@link silent}, it may only be busy; but heads speak
   * for it no longer than a standing connection does: who gives nothing else wins every race and holds up every transfer.
   *
   * @returns whether it seems to be busy; if not, it is put aside
   */
  withheld(why: PeerFailure, now: number, probation: Probation): boolean {
    const since = (this.withholds(now) ? this.#withheld?.since : undefined) ?? now
    this.#withheld = { since, at: now }
    const isAlive = this.#isConnected || now - this.#heardAt < HEARD_TIME
    const isBusy = now - this.#gaveAt < HEARD_TIME || (isAlive && now - since < LONGEST_SILENCE)
    if (why === 'silent' && isBusy) return true
    this.putAside(why, now, probation)
    return false
  }

  putAside(why: PeerFailure, now: number, { first, longest }: Probation): void {
    this.#aliveUntil = 0
    if (this.#asideUntil > now) {
      // Transfers that break off together are one failure of one peer, not many in a row.
      if (why === 'silent') this.#lastFailure = why
      return
    }
    this.#asideUntil = now + Math.min(first * 2 ** this.#failures, longest)
    this.#failures++
    this.#lastFailure = why
  }

  /** A Hyperswarm connection has opened: the node works, or works again, and what was held against it before is over. */
  revive(): void {
    this.#isConnected = true
    this.#silentSince = undefined
    this.#withheld = undefined
    this.#forgive()
  }

  /** Its Hyperswarm connection ended. */
  gone(now: number, probation: Probation): void {
    this.#isConnected = false
    this.putAside('silent', now, probation)
  }

  #forgive(): void {
    this.#failures = 0
    this.#asideUntil = 0
    this.#lastFailure = undefined
  }
}

function average(before: number | undefined, value: number): number {
  return before === undefined ? value : before + (value - before) * WEIGHT
}
