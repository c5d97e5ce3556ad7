import { Alarm, type Clock } from './clock.ts'
import type { RoundTrip } from './rtt.ts'

/** Longest wait between two probes in milliseconds, on a path whose round trip is not itself longer. */
const MAX_INTERVAL = 2_000

/** A peer that has not answered for this many milliseconds, and not to this many probes, is gone. */
export const GIVE_UP_TIME = 15_000
export const GIVE_UP_PROBES = 6

/** Probes without an answer after which the sending rate starts anew (RFC 9002, section 7.6.1: kPersistentCongestionThreshold). */
const STALL_PROBES = 3

export interface ProbeEvents {
  /** Sends something that has to be answered. */
  probe(now: number): void
  stall(): void
  giveUp(): void
}

/**
 * When to probe a peer that does not answer: after the probe timeout, then after twice that and so on (RFC 9002, section
 * 6.2.1). Serves lost tails as well as closed windows. A dead peer is given up after 15 to 17 seconds.
 */
export class ProbeTimer {
  readonly #rtt: RoundTrip
  readonly #events: ProbeEvents
  readonly #clock: Clock
  readonly #alarm: Alarm
  /** Probes since the peer has last been heard of, and since it has last acknowledged something. */
  #probes = 0
  #backoff = 0
  #silentSince = 0
  #waiting = false

  constructor(clock: Clock, rtt: RoundTrip, events: ProbeEvents) {
    this.#clock = clock
    this.#rtt = rtt
    this.#events = events
    this.#alarm = new Alarm(clock, () => this.#ring())
  }

  /** There is something to wait for. `restart`: the wait begins now, since something has been sent or acknowledged. */
  wait(now: number, restart: boolean): void {
    if (!this.#waiting) {
      this.#waiting = true
      this.#silentSince = now
    }
    if (restart || this.#alarm.deadline === Number.POSITIVE_INFINITY) this.#alarm.set(now + this.#interval())
  }

  /** There is nothing to wait for. */
  rest(): void {
    this.#waiting = false
    this.#alarm.silence()
  }

  /** The peer lives. Probes of a closed window go on at their growing intervals. */
  onHeard(): void {
    this.#probes = 0
    this.#waiting = false
  }

  /** The peer has acknowledged something. */
  onProgress(): void {
    this.onHeard()
    this.#backoff = 0
  }

  close(): void {
    this.#alarm.close()
  }

  #interval(): number {
    const base = this.#rtt.probeTimeout
    return Math.min(base * 2 ** Math.min(this.#backoff, 16), Math.max(MAX_INTERVAL, base))
  }

  #ring(): void {
    const now = this.#clock.now()
    if (this.#probes >= GIVE_UP_PROBES && now - this.#silentSince >= GIVE_UP_TIME) {
      this.#events.giveUp()
      return
    }
    this.#probes++
    this.#backoff++
    if (this.#probes === STALL_PROBES) this.#events.stall()
    this.#events.probe(now)
    this.wait(now, true)
  }
}
