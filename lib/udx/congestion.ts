import type { RateSample } from './rate.ts'

/** Share of lost bytes that is taken for an overrun buffer. */
const LOSS_LIMIT = 0.15
/** Least bytes over which that share is measured: among 150 packets, random loss reaches 15% about once in a hundred times. */
const LOSS_SAMPLE = 150 * 1500
/** What remains of the flight when a buffer is overrun, and how fast the cap rises per probe of the rate. */
const LOSS_BETA = 0.85
const CAP_GROWTH = 1.03

/** Gains of the startup: 2/ln 2, the least that doubles the rate each round (BBR draft, section 2.4), and its inverse. */
const STARTUP_GAIN = 2.885
const DRAIN_GAIN = 1 / STARTUP_GAIN
/** Pacing gains of the steady state, one per round: probe, drain the queue of the probe, cruise (BBR v1). */
const CYCLE = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const
/** Flight as a multiple of rate times round trip: one on the way, one for acknowledgements that come in bursts. */
const FLIGHT_GAIN = 2
const PROBE_RTT_GAIN = 0.5

/** Rounds without a quarter more rate after which the path counts as full. */
const FULL_ROUNDS = 3
const FULL_GROWTH = 1.25

/** How long the lowest round-trip time counts, and how long the flight is kept small to measure it again, in milliseconds. */
const MIN_RTT_LIFE = 10_000
const PROBE_RTT_TIME = 200

/** How long the highest rate counts: at least this many rounds and milliseconds, and at most twice that. */
const RATE_ROUNDS = 5
const RATE_TIME = 50

/**
 * Least round-trip time of the model in milliseconds. A JavaScript peer acknowledges once per turn of its event loop: on a
 * path that is faster, the turn is the round trip.
 */
const MODEL_RTT = 1

/** Bytes in flight to begin with, ten full packets (RFC 6928), and bytes that may always be in flight, four packets. */
export const INITIAL_WINDOW = 10 * 1500
export const MIN_WINDOW = 4 * 1500

type State = 'startup' | 'drain' | 'probe-bw' | 'probe-rtt'

/** The maximum of the current window and the one before. */
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

/**
 * Congestion control after BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", CACM 60(2), 2017, and
 * draft-ietf-ccwg-bbr): it models the path by the highest delivery rate and the lowest round-trip time that were seen lately,
 * paces at that rate and keeps about twice their product in flight. Chosen over CUBIC and Reno because those take every lost
 * packet for a full queue: at 5% random loss they stand still, while the model does not move.
 *
 * Loss still counts where it looks like a full buffer (BBR v1 ignores it, v3 reacts at 2%): more than {@link LOSS_LIMIT} caps
 * what is in flight. The limit is above what two ends lose that each drop 5% (9.75%); a rate gain of 1.25 is still above 1
 * after such a loss, so the estimate does not decay.
 */
export class Congestion {
  state: State = 'startup'
  /** Lowest recent round-trip time in milliseconds; infinity before the first. */
  minRtt = Number.POSITIVE_INFINITY
  #window = INITIAL_WINDOW
  #cap = Number.POSITIVE_INFINITY
  #rate = new RecentMax()
  #rateRounds = 0
  #rateTurnedAt = 0
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

  /** Bytes that may be in flight. */
  get window(): number {
    if (this.state === 'probe-rtt') return Math.max(MIN_WINDOW, Math.min(this.#window, this.#product(PROBE_RTT_GAIN)))
    return Math.max(MIN_WINDOW, Math.min(this.#window, this.#cap))
  }

  /** Bytes per millisecond. */
  get pacingRate(): number {
    if (this.#rate.value > 0) return this.#rate.value * this.#pacingGain
    const rtt = this.minRtt === Number.POSITIVE_INFINITY ? 0 : this.minRtt
    return (STARTUP_GAIN * INITIAL_WINDOW) / Math.max(MODEL_RTT, rtt)
  }

  /** Highest recent delivery rate, in bytes per millisecond. */
  get rate(): number {
    return this.#rate.value
  }

  /** `bytes` were found lost while `flight` bytes were on their way. */
  onLost(bytes: number, flight: number): void {
    this.#lost += bytes
    if (flight > this.#peak) this.#peak = flight
  }

  /** Acknowledgements of one packet have been handled; `flight` bytes are still on their way. */
  onAcked(sample: RateSample, flight: number, now: number): void {
    this.#delivered += sample.acked
    this.#acked += sample.acked
    const roundOver = sample.priorDelivered >= this.#roundEnd
    if (roundOver) this.#startRound(now)
    if (sample.rate > 0 && (!sample.appLimited || sample.rate > this.#rate.value)) this.#rate.add(sample.rate)
    this.#measureExtra(sample.acked, now)
    if (roundOver && !sample.appLimited && this.state === 'startup') this.#checkFull()
    this.#checkLoss()
    this.#updateMinRtt(sample.rtt, now)
    this.#advance(flight, now)
    this.#updateWindow(sample.acked)
  }

  /** Nothing has been acknowledged for several probes: starts again from the smallest window, but keeps the model. */
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
      if (this.state === 'startup') this.#enter('drain', DRAIN_GAIN)
    }
    this.#lost = 0
    this.#acked = 0
    this.#peak = 0
  }

  #updateMinRtt(rtt: number, now: number): void {
    const expired = now - this.#minRttAt > MIN_RTT_LIFE
    if (rtt > 0 && (rtt <= this.minRtt || expired)) {
      this.minRtt = rtt
      this.#minRttAt = now
    }
    if (expired && this.#rounds > 1 && this.state === 'probe-bw') {
      this.#enter('probe-rtt', 1)
      this.#probeRttEnd = now + PROBE_RTT_TIME
    }
  }

  #advance(flight: number, now: number): void {
    if (this.state === 'drain' && flight <= this.#product(1)) this.#cruise(now, 2)
    else if (this.state === 'probe-rtt' && now >= this.#probeRttEnd) this.#cruise(now, 2)
    else if (this.state === 'probe-bw' && this.#phaseOver(flight, now))
      this.#cruise(now, (this.#cycle + 1) % CYCLE.length)
  }

  #phaseOver(flight: number, now: number): boolean {
    // Draining ends as soon as the queue of the probe is gone.
    if (this.#cycle === 1 && flight <= this.#product(1)) return true
    return now - this.#cycleAt > Math.max(MODEL_RTT, this.minRtt)
  }

  #cruise(now: number, cycle: number): void {
    this.#cycle = cycle
    this.#cycleAt = now
    if (cycle === 0) this.#cap *= CAP_GROWTH
    this.#enter('probe-bw', CYCLE[cycle] as number)
  }

  #enter(state: State, gain: number): void {
    this.state = state
    this.#pacingGain = gain
  }

  /** Measures the bursts of acknowledgements, in bytes ahead of the rate (BBR draft, section 5.5.9). */
  #measureExtra(acked: number, now: number): void {
    const expected = this.#rate.value * (now - this.#epochAt)
    if (this.#epochAcked <= expected) {
      this.#epochAt = now
      this.#epochAcked = acked
      return
    }
    this.#epochAcked += acked
    this.#extra.add(Math.min(this.#epochAcked - expected, this.#window))
  }

  #updateWindow(acked: number): void {
    const gain = this.state === 'startup' ? STARTUP_GAIN : FLIGHT_GAIN
    const target = Math.max(MIN_WINDOW, this.#product(gain) + this.#extra.value)
    if (this.state !== 'startup') this.#window = Math.min(this.#window + acked, target)
    else if (this.#window < target || this.#delivered < INITIAL_WINDOW) this.#window += acked
  }

  /** `gain` times the bytes that fill the path at its rate and round-trip time. */
  #product(gain: number): number {
    if (this.minRtt === Number.POSITIVE_INFINITY) return INITIAL_WINDOW * gain
    return gain * this.#rate.value * Math.max(MODEL_RTT, this.minRtt)
  }
}
