import { MAX_PADDING } from './packet.ts'

/** Largest packet that every path is taken to carry, IP and UDP headers included, in bytes (that of the addon). */
export const BASE_MTU = 1200
/** Largest packet that is ever sent: Ethernet's, and what the addon's receive buffer and its own probes are made for. */
export const MAX_MTU = 1500

/** IP, UDP and UDX headers, in bytes. */
const HEADERS_V4 = 20 + 8 + 20
const HEADERS_V6 = 40 + 8 + 20

/** Smallest step of the search in bytes: that of the addon. */
const MIN_STEP = 32
/** Probes of one size that may be lost before that size counts as too large (RFC 8899, section 5.1.2: MAX_PROBES is 3). */
const MAX_PROBES = 3

/**
 * Search for the path's MTU after RFC 8899: a packet with data is padded to the size in question; if it arrives, so do all
 * of that size. The first step is as large as the format allows, and halved when its probes are lost: on the usual path
 * the whole search is two probes. The runtimes cannot forbid fragmentation, so a probe that a router has to fragment counts
 * as arrived: that costs speed on such a path, never data.
 */
export class MtuSearch {
  readonly #max: number
  #mtu = BASE_MTU
  #step = MAX_PADDING & ~(MIN_STEP - 1)
  #lost = 0
  #inFlight = false
  /** Off until the first acknowledgement: that confirms the base. */
  #searching = false

  constructor(max = MAX_MTU) {
    this.#max = max
  }

  get mtu(): number {
    return this.#mtu
  }

  /** Most bytes of payload in a packet. */
  payload(family: 4 | 6): number {
    return this.#mtu - (family === 4 ? HEADERS_V4 : HEADERS_V6)
  }

  /** Padding for a packet of full size that is to leave now; 0 if it is no probe. */
  get padding(): number {
    return this.#searching && !this.#inFlight ? Math.min(this.#step, this.#max - this.#mtu) : 0
  }

  /** Any packet has been acknowledged: the base works. */
  start(): void {
    if (!this.#searching && this.#mtu < this.#max && this.#step >= MIN_STEP) this.#searching = true
  }

  onProbeSent(): void {
    this.#inFlight = true
  }

  onProbeAcked(padding: number): void {
    this.#inFlight = false
    this.#lost = 0
    if (!this.#searching) return
    this.#mtu = Math.min(this.#max, this.#mtu + padding)
    if (this.#mtu >= this.#max) this.#searching = false
  }

  onProbeLost(): void {
    this.#inFlight = false
    if (++this.#lost < MAX_PROBES) return
    this.#lost = 0
    this.#step = (this.#step >> 1) & ~(MIN_STEP - 1)
    if (this.#step < MIN_STEP) this.#searching = false
  }

  /** Starts again, for another path. Probes of the old one are no longer counted. */
  reset(): void {
    this.#mtu = BASE_MTU
    this.#step = MAX_PADDING & ~(MIN_STEP - 1)
    this.#lost = 0
    this.#inFlight = false
    this.#searching = false
  }
}
