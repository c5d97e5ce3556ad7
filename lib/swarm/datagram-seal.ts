import { hkdfSync, randomFillSync } from 'node:crypto'
import b4a from 'b4a'
import sodium from 'sodium-native'
import { type Logger, rareWarnings } from '../observe/log.ts'
import { addressOf } from '../platform/address.ts'
import type { DatagramSeal } from '../udx/index.ts'
import type { NodeAddress } from './node.ts'

const PURPOSE = 'swarmirror/datagram/1'

const NONCE_LENGTH = 24
const TIME_START = NONCE_LENGTH + 16
const DATA_START = TIME_START + 4
/** Most bytes of a datagram. */
const MOST_PLAIN = 65_535

/** Seconds by which the clocks of two members may differ: as many as capabilities tolerate. */
const CLOCK_SKEW = 60

/** How many nonces are made at once, because a call for each costs more than the nonce. */
const NONCES = 256

/** How many datagrams each of two generations remembers, so that none is opened twice: 512 KiB in all. */
const REMEMBERED = 32_768

/** Why a datagram was refused. `ahead`: by how many seconds its time is ahead of this node's. */
export type Refusal =
  | { readonly reason: 'unsealed' }
  | { readonly reason: 'repeated' }
  | { readonly reason: 'clock'; readonly ahead: number }

/** The warnings for refusals, by their reason. A network may repeat a datagram, which is only counted. */
const EVENTS = {
  unsealed: 'datagrams refused: not sealed under the swarm key',
  clock: 'datagrams refused: the clock of a member is wrong, or this one',
} as const

/** Counts refused datagrams, and warns about them. */
export class Refusals {
  /** How many there were so far. */
  total = 0
  readonly #warnings: Pick<Logger, 'warn'>

  constructor(log: Logger, now?: () => number) {
    this.#warnings = rareWarnings(log, now)
  }

  /** Notes a refused datagram. Its address may be forged. */
  note(refusal: Refusal, from: NodeAddress): void {
    this.total++
    if (refusal.reason === 'repeated') return
    const ahead = refusal.reason === 'clock' ? { secondsAhead: refusal.ahead } : {}
    this.#warnings.warn(EVENTS[refusal.reason], { from: addressOf(from), ...ahead })
  }
}

export interface SwarmSealOptions {
  /** Datagrams are sealed under the first key and opened under any. */
  readonly swarmKeys: readonly [Uint8Array, ...Uint8Array[]]
  /** Called for each refused datagram. Its address may be forged. */
  readonly onRefused: (refusal: Refusal, from: NodeAddress) => void
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

/**
 * Seals every datagram of a swarm, so that only members can make or read one. It uses NaCl's secretbox (XSalsa20 and Poly1305)
 * under a key derived from the swarm key.
 *
 * | byte | what |
 * | --- | --- |
 * | 0 | nonce: 24 random bytes |
 * | 24 | tag of what follows, 16 bytes |
 * | 40 | encrypted: when it was sealed, in seconds since 1970, 4 bytes, little-endian |
 * | 44 | encrypted: the datagram |
 *
 * A sealed datagram looks random. Only its length gives a hint whether it belongs to Hyperswarm, to which topic, or to whom.
 * Members choose nonces independently, which is safe with 24 random bytes. Of all that sodium-native and node:crypto offer,
 * secretbox is the cheapest on the three runtimes, above all for datagrams that do not open (tests/bench/seal.ts).
 *
 * A recorded datagram is useless once its time is over. Until then it is opened only once, whoever sends it.
 */
export function createSwarmSeal({ swarmKeys, onRefused, now = Date.now }: SwarmSealOptions): DatagramSeal {
  const keyOf = (swarmKey: Uint8Array) => new Uint8Array(hkdfSync('sha256', swarmKey, '', PURPOSE, 32))
  const keys = swarmKeys.map(keyOf) as [Uint8Array, ...Uint8Array[]]
  const nonces = b4a.alloc(NONCES * NONCE_LENGTH)
  let nextNonce = nonces.length
  /** The buffer for opened datagrams. It is reused, so that strangers cost no memory. */
  const plainBuffer = b4a.alloc(MOST_PLAIN)
  const opened = new RecentDatagrams()
  const seconds = () => Math.floor(now() / 1000)

  function takeNonce(into: Uint8Array): void {
    if (nextNonce === nonces.length) {
      randomFillSync(nonces)
      nextNonce = 0
    }
    // A loop is as fast as a copy for so few bytes, and needs no object for the copied part.
    for (let i = 0; i < NONCE_LENGTH; i++) into[i] = nonces[nextNonce++] as number
  }

  function refuse(refusal: Refusal, port: number, host: string): undefined {
    onRefused(refusal, { host, port })
  }

  return {
    seal(datagram: Uint8Array): Uint8Array {
      const sealed = b4a.allocUnsafe(DATA_START + datagram.length)
      const nonce = sealed.subarray(0, NONCE_LENGTH)
      takeNonce(nonce)
      b4a.writeUInt32LE(sealed, seconds(), TIME_START)
      sealed.set(datagram, DATA_START)
      sodium.crypto_secretbox_easy(sealed.subarray(NONCE_LENGTH), sealed.subarray(TIME_START), nonce, keys[0])
      return sealed
    },

    open(sealed: Uint8Array, port: number, host: string): Uint8Array | undefined {
      if (sealed.length < DATA_START) return refuse({ reason: 'unsealed' }, port, host)
      const nonce = sealed.subarray(0, NONCE_LENGTH)
      const box = sealed.subarray(NONCE_LENGTH)
      const plain = plainBuffer.subarray(0, sealed.length - TIME_START)
      const isOpened = keys.some((key) => sodium.crypto_secretbox_open_easy(plain, box, nonce, key))
      if (!isOpened) return refuse({ reason: 'unsealed' }, port, host)
      const at = seconds()
      const ahead = b4a.readUInt32LE(plain, 0) - at
      if (Math.abs(ahead) > CLOCK_SKEW) return refuse({ reason: 'clock', ahead }, port, host)
      if (!opened.add(nonce, at)) return refuse({ reason: 'repeated' }, port, host)
      return plain.subarray(DATA_START - TIME_START)
    },
  }
}

/**
 * Remembers opened datagrams as long as their time is right, or as there is room. Nonces are random, so it stores 4 bytes of a
 * nonce at the place that 4 other bytes name. One datagram in billions is taken for another one, and lost.
 */
class RecentDatagrams {
  #current = new Uint32Array(2 * REMEMBERED)
  #previous = new Uint32Array(2 * REMEMBERED)
  #count = 0
  #since = 0

  /** Notes a datagram at `now`, in seconds. @returns whether it is new */
  add(nonce: Uint8Array, now: number): boolean {
    // A datagram's time is right for up to 2 * CLOCK_SKEW, from a clock that is ahead to one that is behind.
    if (this.#count === REMEMBERED || Math.abs(now - this.#since) > 2 * CLOCK_SKEW) this.#turn(now)
    const place = b4a.readUInt32LE(nonce, 0)
    // 0 marks a free place.
    const mark = b4a.readUInt32LE(nonce, 4) || 1
    const free = freePlace(this.#current, place, mark)
    if (free === undefined || freePlace(this.#previous, place, mark) === undefined) return false
    this.#current[free] = mark
    this.#count++
    return true
  }

  #turn(now: number): void {
    const oldest = this.#previous.fill(0)
    this.#previous = this.#current
    this.#current = oldest
    this.#count = 0
    this.#since = now
  }
}

/** The first free place from `place` on; `undefined` if `mark` comes before it. Half of a table is always free. */
function freePlace(table: Uint32Array, place: number, mark: number): number | undefined {
  for (let at = place % table.length; ; at = (at + 1) % table.length) {
    if (table[at] === 0) return at
    if (table[at] === mark) return undefined
  }
}
