import { MAX_PADDING } from './packet.ts'

/** Largest packet that every path is taken to carry, IP and UDP headers included, in bytes, as in the addon. */
export const BASE_MTU = 1200
/** Largest packet that is ever sent, in bytes: Ethernet's limit, and what the addon's receive buffer and probes are made for. */
export const MAX_MTU = 1500

/** IPv4, UDP and UDX headers, in bytes. */
const HEADERS = 20 + 8 + 20

/** Smallest step of the search in bytes, as in the addon. */
const MIN_STEP = 32
/** First step of the search in bytes: the largest that the format allows. */
const FIRST_STEP = MAX_PADDING & ~(MIN_STEP - 1)
/** Probes of one size that may be lost before that size counts as too large (RFC 8899, section 5.1.2: MAX_PROBES is 3). */
const MAX_PROBES = 3

/**
 * Search for the path's MTU after RFC 8899: a packet with data is padded to the size in question; if it arrives, so do all of
 * that size. The step is halved when its probes are lost. On the usual path the whole search takes two probes. The runtimes
 * cannot forbid fragmentation, so a probe that a router fragments counts as arrived: that costs speed on such a path, never
 * data.
 */
export class MtuSearch {
  #size = BASE_MTU
  #step = FIRST_STEP
  #lost = 0
  #inFlight = false
  /** Off until the first acknowledgement, which confirms the base. */
  #searching = false
  readonly #headers: number

  /** `overhead`: bytes that sealing adds to each packet. */
  constructor(overhead = 0) {
    this.#headers = HEADERS + overhead
  }

  /** Largest packet that is known to arrive, IP and UDP headers included, in bytes. */
  get size(): number {
    return this.#size
  }

  /** Most bytes of payload in a packet. */
  get payload(): number {
    return this.#size - this.#headers
  }

  /** Padding for a full packet that leaves now, in bytes; 0 if it is no probe. */
  get padding(): number {
    return this.#searching && !this.#inFlight ? Math.min(this.#step, MAX_MTU - this.#size) : 0
  }

  /** Any packet has been acknowledged: the base works. */
  start(): void {
    if (!this.#searching && this.#size < MAX_MTU && this.#step >= MIN_STEP) this.#searching = true
  }

  onProbeSent(): void {
    this.#inFlight = true
  }

  onProbeAcked(padding: number): void {
    this.#inFlight = false
    this.#lost = 0
    if (!this.#searching) return
    this.#size = Math.min(MAX_MTU, this.#size + padding)
    if (this.#size >= MAX_MTU) this.#searching = false
  }

  onProbeLost(): void {
    this.#inFlight = false
    if (++this.#lost < MAX_PROBES) return
    this.#lost = 0
    this.#step = (this.#step >> 1) & ~(MIN_STEP - 1)
    if (this.#step < MIN_STEP) this.#searching = false
  }
}
