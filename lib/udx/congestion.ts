import type { RateSample } from './rate.ts'

/**
 * Congestion control after BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", CACM 60(2), 2017, and
 * draft-ietf-ccwg-bbr): it models the path by the highest delivery rate and the lowest round-trip time that were seen lately,
 * paces at the first and keeps about twice their product in flight. Chosen over CUBIC and Reno because those take every
 * lost packet for a full queue: at 5% random loss they stand still, while the model does not move.
 *
 * Loss still counts where it is what a full buffer looks like (BBR v1 ignores it, v3 reacts at 2%): more than
 * {@link LOSS_LIMIT} caps what is in flight. The limit is above what two ends that each drop 5% make of the data (9.75%),
 * and what stays of a rate gain of 1.25 after it is above 1, so the estimate does not decay.
 */

/** Share of lost bytes that is taken for an overrun buffer. */
const LOSS_LIMIT = 0.15
/** Least bytes over which that share is measured: of 150 packets, one of chance is 15% once in a hundred times. */
const LOSS_SAMPLE = 150 * 1500
/** What an overrun buffer leaves of the flight, and how fast the cap is lifted per probe of the rate. */
const LOSS_BETA = 0.85
const CAP_GROWTH = 1.03

/** Gains of the startup: 2/ln 2, the least that doubles the rate each round (draft, section 2.4), and its inverse. */
const STARTUP_GAIN = 2.885
const DRAIN_GAIN = 1 / STARTUP_GAIN
/** Pacing gains of the steady state, one per round: probe, make up for it, cruise (BBR v1). */
const CYCLE = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const
/** Flight in products of rate and round trip: one on the way, one for acknowledgements that come in bursts. */
const FLIGHT_GAIN = 2
const PROBE_RTT_GAIN = 0.5

/** Rounds without a quarter more rate after which the path counts as full. */
const FULL_ROUNDS = 3
const FULL_GROWTH = 1.25

/** How long the lowest round-trip time counts, and how long the flight is kept low to measure it again, in ms. */
const MIN_RTT_LIFE = 10_000
const PROBE_RTT_TIME = 200

/** How long the highest rate counts: twice these rounds, and twice these milliseconds. */
const RATE_ROUNDS = 5
const RATE_TIME = 50

/**
 * Least round-trip time of the model in ms. A JavaScript peer acknowledges once per turn of its event loop: on a path that
 * is faster than that, the turn is the round trip.
 */
const MODEL_RTT = 1

/** In bytes: ten full packets to begin with (RFC 6928), and four that always may fly. */
export const INITIAL_WINDOW = 10 * 1500
export const MIN_WINDOW = 4 * 1500

type State = 'startup' | 'drain' | 'probe-bw' | 'probe-rtt'

/** A maximum over the last one to two windows. */
class RecentMax {
  #current = 0
  #previous = 0

  get value(): number {
    return Math.max(this.#current, this.#previous)
  }

  add(value: number): void {
    if (value > this.#current) this.#current = value
  }

  rotate(): void {
    this.#previous = this.#current
    this.#current = 0
  }
}

export class Congestion {
  #state: State = 'startup'
  #window = INITIAL_WINDOW
  #cap = Number.POSITIVE_INFINITY
  #rate = new RecentMax()
  #rateRounds = 0
  #rateTurnedAt = 0
  #minRtt = Number.POSITIVE_INFINITY
  #minRttAt = 0
  #pacingGain = STARTUP_GAIN
  #rounds = 0
  #roundEnd = 0
  #delivered = 0
  #fullRate = 0
  #fullRounds = 0
  #cycle = 0
  #cycleAt = 0
  #probeRttEnd = 0
  #lost = 0
  #acked = 0
  #peak = 0
  readonly #extra = new RecentMax()
  #epochAt = 0
  #epochAcked = 0

  get state(): State {
    return this.#state
  }

  /** Bytes that may be in flight. */
  get window(): number {
    if (this.#state === 'probe-rtt') return Math.max(MIN_WINDOW, Math.min(this.#window, this.#product(PROBE_RTT_GAIN)))
    return Math.max(MIN_WINDOW, Math.min(this.#window, this.#cap))
  }

  /** Bytes per millisecond. */
  get pacingRate(): number {
    const rate = this.#rate.value
    if (rate === 0)
      return (
        (STARTUP_GAIN * INITIAL_WINDOW) /
        Math.max(MODEL_RTT, this.#minRtt === Number.POSITIVE_INFINITY ? 0 : this.#minRtt)
      )
    return rate * this.#pacingGain
  }

  /** Highest delivery rate of late, in bytes per millisecond. */
  get rate(): number {
    return this.#rate.value
  }

  /** Lowest round-trip time of late in milliseconds; infinity before the first. */
  get minRtt(): number {
    return this.#minRtt
  }

  /** `bytes` turned out lost while `flight` were on their way. */
  onLost(bytes: number, flight: number): void {
    this.#lost += bytes
    if (flight > this.#peak) this.#peak = flight
  }

  /** Acknowledgements of one packet have been handled; `flight` bytes are still on their way. */
  onAcked(sample: RateSample, flight: number, now: number): void {
    if (sample.acked === 0) return
    this.#delivered += sample.acked
    this.#acked += sample.acked
    const roundOver = sample.priorDelivered >= this.#roundEnd
    if (roundOver) this.#startRound(now)
    if (sample.rate > 0 && (!sample.appLimited || sample.rate > this.#rate.value)) this.#rate.add(sample.rate)
    this.#measureExtra(sample.acked, now)
    if (roundOver && !sample.appLimited && this.#state === 'startup') this.#checkFull()
    this.#checkLoss()
    this.#updateMinRtt(sample.rtt, now)
    this.#advance(flight, now)
    this.#updateWindow(sample.acked)
  }

  /** Nothing has been acknowledged for several probes: starts from the smallest window, with the model kept. */
  onStall(): void {
    this.#window = MIN_WINDOW
  }

  #startRound(now: number): void {
    this.#roundEnd = this.#delivered
    this.#rounds++
    if (++this.#rateRounds >= RATE_ROUNDS && now - this.#rateTurnedAt >= RATE_TIME) {
      this.#rateRounds = 0
      this.#rateTurnedAt = now
      this.#rate.rotate()
      this.#extra.rotate()
    }
  }

  #checkFull(): void {
    if (this.#rate.value >= this.#fullRate * FULL_GROWTH) {
      this.#fullRate = this.#rate.value
      this.#fullRounds = 0
    } else if (++this.#fullRounds >= FULL_ROUNDS) this.#enter('drain', DRAIN_GAIN)
  }

  #checkLoss(): void {
    if (this.#lost + this.#acked < LOSS_SAMPLE) return
    if (this.#lost > LOSS_LIMIT * (this.#lost + this.#acked)) {
      this.#cap = Math.max(MIN_WINDOW, this.#product(1), Math.min(this.#peak, this.window) * LOSS_BETA)
      if (this.#state === 'startup') this.#enter('drain', DRAIN_GAIN)
    }
    this.#lost = 0
    this.#acked = 0
    this.#peak = 0
  }

  #updateMinRtt(rtt: number, now: number): void {
    const expired = now - this.#minRttAt > MIN_RTT_LIFE
    if (rtt > 0 && (rtt <= this.#minRtt || expired)) {
      this.#minRtt = rtt
      this.#minRttAt = now
    }
    if (expired && this.#rounds > 1 && this.#state === 'probe-bw') {
      this.#enter('probe-rtt', 1)
      this.#probeRttEnd = now + PROBE_RTT_TIME
    }
  }

  #advance(flight: number, now: number): void {
    if (this.#state === 'drain' && flight <= this.#product(1)) this.#cruise(now, 2)
    else if (this.#state === 'probe-rtt' && now >= this.#probeRttEnd) this.#cruise(now, 2)
    else if (this.#state === 'probe-bw' && this.#phaseOver(flight, now))
      this.#cruise(now, (this.#cycle + 1) % CYCLE.length)
  }

  #phaseOver(flight: number, now: number): boolean {
    // Making up for the probe ends as soon as its queue is gone.
    if (this.#cycle === 1 && flight <= this.#product(1)) return true
    return now - this.#cycleAt > Math.max(MODEL_RTT, this.#minRtt)
  }

  #cruise(now: number, cycle: number): void {
    this.#cycle = cycle
    this.#cycleAt = now
    if (cycle === 0) this.#cap *= CAP_GROWTH
    this.#enter('probe-bw', CYCLE[cycle] as number)
  }

  #enter(state: State, gain: number): void {
    this.#state = state
    this.#pacingGain = gain
  }

  /** How far acknowledgements come in bursts, in bytes ahead of the rate (draft, section 5.5.9). */
  #measureExtra(acked: number, now: number): void {
    const expected = this.#rate.value * (now - this.#epochAt)
    if (this.#epochAcked <= expected) {
      this.#epochAt = now
      this.#epochAcked = 0
      this.#epochAcked += acked
      return
    }
    this.#epochAcked += acked
    this.#extra.add(Math.min(this.#epochAcked - expected, this.#window))
  }

  #updateWindow(acked: number): void {
    const gain = this.#state === 'startup' ? STARTUP_GAIN : FLIGHT_GAIN
    const target = Math.max(MIN_WINDOW, this.#product(gain) + this.#extra.value)
    if (this.#state !== 'startup') this.#window = Math.min(this.#window + acked, target)
    else if (this.#window < target || this.#delivered < INITIAL_WINDOW) this.#window += acked
  }

  /** `gain` times what rate and round-trip time put on the way. */
  #product(gain: number): number {
    if (this.#minRtt === Number.POSITIVE_INFINITY) return INITIAL_WINDOW * gain
    return gain * this.#rate.value * Math.max(MODEL_RTT, this.#minRtt)
  }
}
