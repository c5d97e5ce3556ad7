import type { Logger } from '../observe/log.ts'
import { addressOf } from '../platform/address.ts'
import type { Refusal } from './datagram-seal.ts'
import type { NodeAddress } from './node.ts'

/** Milliseconds between two warnings for the same reason: whoever reaches the port can cause refusals. */
const WARN_INTERVAL = 60_000

/** What to say of refusals, by their reason. A network may repeat a datagram; that is counted only. */
const EVENTS = {
  unsealed: 'datagrams refused: not sealed under the swarm key',
  clock: 'datagrams refused: the clock of a member is wrong, or this one',
} as const

/** Counts the datagrams that are refused, and warns about them. */
export class Refusals {
  /** All so far. */
  total = 0
  readonly #log: Logger
  readonly #now: () => number
  /** When the last warning was given, and what has been refused since. */
  readonly #warned = new Map<keyof typeof EVENTS, { at: number; since: number }>()

  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log
    this.#now = now
  }

  /** Notes a datagram that was refused. Its address may be forged. */
  note(refusal: Refusal, from: NodeAddress): void {
    this.total++
    if (refusal.reason === 'repeated') return
    const warned = this.#warned.get(refusal.reason)
    const now = this.#now()
    if (warned !== undefined && now - warned.at < WARN_INTERVAL) {
      warned.since++
      return
    }
    const ahead = refusal.reason === 'clock' ? { secondsAhead: refusal.ahead } : {}
    const others = warned?.since ?? 0
    this.#log.warn(EVENTS[refusal.reason], { from: addressOf(from), ...ahead, ...(others > 0 ? { others } : {}) })
    this.#warned.set(refusal.reason, { at: now, since: 0 })
  }
}
