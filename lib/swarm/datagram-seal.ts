import { hkdfSync } from 'node:crypto'
import b4a from 'b4a'
import sodium from 'sodium-native'
import { type LogFields, type Logger, rareWarnings } from '../observe/log.ts'
import { addressOf } from '../platform/address.ts'
import type { DatagramBackend } from '../udx/index.ts'
import { numberFrom } from './node.ts'

const PURPOSE = 'swarmirror/datagram/1'

const NONCE_LENGTH = 24
const TIME_START = NONCE_LENGTH + 16
const DATA_START = TIME_START + 4
/** Most bytes of a datagram. */
const MOST_PLAIN = 65_535

/** Seconds by which the clocks of two members may differ: as many as capabilities tolerate. */
const CLOCK_SKEW = 60

/** How many datagrams each of two generations remembers, so that none is opened twice: up to 3 MiB in all. */
const REMEMBERED = 32_768

/** The warnings for refused datagrams. A network may repeat a datagram, which is only counted. */
const UNSEALED = 'datagrams refused: not sealed under the swarm key'
const WRONG_TIME = 'datagrams refused: the clock of a member is wrong, or this one'

export type SwarmSeal = ReturnType<typeof createSwarmSeal>

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
 *
 * @param swarmKeys datagrams are sealed under the first key and opened under any
 * @param now milliseconds since 1970
 */
export function createSwarmSeal(log: Logger, swarmKeys: readonly [Uint8Array, ...Uint8Array[]], now = Date.now) {
  const keyOf = (swarmKey: Uint8Array) => new Uint8Array(hkdfSync('sha256', swarmKey, '', PURPOSE, 32))
  const keys = swarmKeys.map(keyOf) as [Uint8Array, ...Uint8Array[]]
  /** The buffer for opened datagrams. It is reused, so that strangers cost no memory. */
  const plainBuffer = b4a.alloc(MOST_PLAIN)
  const opened = new RecentDatagrams()
  const warnings = rareWarnings(log)
  let refused = 0
  const seconds = () => Math.floor(now() / 1000)

  /** Counts a datagram, and warns about it. Its address may be forged. */
  function refuse(warning: string, host: string, port: number, more: LogFields = {}): undefined {
    refused++
    warnings.warn(warning, { from: addressOf({ host, port }), ...more })
  }

  return {
    /** How many datagrams it has refused so far. */
    get refused(): number {
      return refused
    },

    seal(datagram: Uint8Array): Uint8Array {
      const sealed = b4a.allocUnsafe(DATA_START + datagram.length)
      const nonce = sealed.subarray(0, NONCE_LENGTH)
      sodium.randombytes_buf(nonce)
      b4a.writeUInt32LE(sealed, seconds(), TIME_START)
      sealed.set(datagram, DATA_START)
      sodium.crypto_secretbox_easy(sealed.subarray(NONCE_LENGTH), sealed.subarray(TIME_START), nonce, keys[0])
      return sealed
    },

    /** The content of a sealed datagram, valid until the next call; `undefined` if the datagram is refused. */
    open(sealed: Uint8Array, port: number, host: string): Uint8Array | undefined {
      if (sealed.length < DATA_START) return refuse(UNSEALED, host, port)
      const nonce = sealed.subarray(0, NONCE_LENGTH)
      const box = sealed.subarray(NONCE_LENGTH)
      const plain = plainBuffer.subarray(0, sealed.length - TIME_START)
      const isOpened = keys.some((key) => sodium.crypto_secretbox_open_easy(plain, box, nonce, key))
      if (!isOpened) return refuse(UNSEALED, host, port)
      const at = seconds()
      const ahead = b4a.readUInt32LE(plain, 0) - at
      if (Math.abs(ahead) > CLOCK_SKEW) return refuse(WRONG_TIME, host, port, { secondsAhead: ahead })
      if (opened.add(nonce, at)) return plain.subarray(DATA_START - TIME_START)
      refused++
      return undefined
    },
  }
}

/** Sockets for members: they seal every datagram that they send, and drop those that they cannot open. */
export function createSealedBackend(inner: DatagramBackend, seal: SwarmSeal): DatagramBackend {
  return {
    bind(options, onDatagram) {
      const socket = inner.bind(options, (bytes, port, host) => {
        const datagram = seal.open(bytes, port, host)
        if (datagram !== undefined) onDatagram(datagram, port, host)
      })
      return {
        port: socket.port,
        send: (bytes, port, host) => socket.send(seal.seal(bytes), port, host),
        close: () => socket.close(),
      }
    },
  }
}

/**
 * Remembers opened datagrams as long as their time is right, or as there is room. Nonces are random, so six bytes are enough: one
 * datagram in billions is taken for another one, and lost.
 */
class RecentDatagrams {
  #current = new Set<number>()
  #previous = new Set<number>()
  #since = 0

  /** Notes a datagram at `now`, in seconds. @returns whether it is new */
  add(nonce: Uint8Array, now: number): boolean {
    // A datagram's time is right for up to 2 * CLOCK_SKEW, from a clock that is ahead to one that is behind.
    if (this.#current.size === REMEMBERED || Math.abs(now - this.#since) > 2 * CLOCK_SKEW) {
      this.#previous = this.#current
      this.#current = new Set()
      this.#since = now
    }
    const mark = numberFrom(nonce)
    if (this.#current.has(mark) || this.#previous.has(mark)) return false
    this.#current.add(mark)
    return true
  }
}
