import { Alarm, type UdxClock } from './clock.ts'
import type { RoundTripTime } from './recovery.ts'

/** Longest wait between two probes in milliseconds, on a path whose round trip is not itself longer. */
const MAX_INTERVAL = 2_000

/** A peer that has answered nothing for this many milliseconds, nor this many probes, is gone. */
export const GIVE_UP_TIME = 15_000
const GIVE_UP_PROBES = 6

/** Probes without an answer after which the sending rate starts anew (RFC 9002, section 7.6.1: kPersistentCongestionThreshold). */
const STALL_PROBES = 3

export interface ProbeEvents {
  /** Sends something that the peer has to answer. */
  probe(now: number): void
  /** Several probes in a row have not been answered. */
  stall(): void
  giveUp(): void
}

/**
 * When to probe a peer that does not answer: after the probe timeout, then after twice that and so on (RFC 9002, section
 * 6.2.1). Probes repair lost tails and watch closed windows. A dead peer is given up after 15 to 17 seconds.
 */
export class ProbeTimer {
  readonly #rtt: RoundTripTime
  readonly #events: ProbeEvents
  readonly #clock: UdxClock
  readonly #alarm: Alarm
  /** Probes since the peer was last heard, and since it last acknowledged something. */
  #probes = 0
  #backoff = 0
  #silentSince = 0
  #waiting = false

  constructor(clock: UdxClock, rtt: RoundTripTime, events: ProbeEvents) {
    this.#clock = clock
    this.#rtt = rtt
    this.#events = events
    this.#alarm = new Alarm(clock, () => this.#ring())
  }

  /** There is something to wait for. `restart`: the wait begins anew, since something has been sent or acknowledged. */
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
    // Not left to run out: it would wake up a process at rest for nothing.
    this.#alarm.close()
  }

  /** The peer lives. Probes of a closed window continue at their growing intervals. */
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
