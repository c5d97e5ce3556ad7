import b4a from 'b4a'
import { addressOf } from '../../platform/address.ts'
import type { Peer } from '../router.ts'

/** The part of a Hyperswarm connection, a Noise stream over UDX, that is used here. */
export interface SwarmConnection {
  readonly remotePublicKey: Uint8Array
  /** Where its packets come from; without an address once it is closed. */
  readonly rawStream: {
    readonly remoteHost: string | null
    readonly remotePort: number
    on(event: 'data', listener: (data: Uint8Array) => void): unknown
  }
  on(event: 'data', listener: (data: Uint8Array) => void): unknown
  on(event: 'end' | 'close' | 'error', listener: () => void): unknown
  write(data: Uint8Array): boolean
  destroy(): void
  /** Milliseconds after which it sends an empty message of its own if nothing else was sent; 0: never. */
  setKeepAlive(milliseconds: number): void
  /** Sends an empty message. */
  sendKeepAlive(): void
  /** Milliseconds of silence after which the connection is destroyed. */
  setTimeout(milliseconds: number): void
}

/** Learns which members are alive. */
export interface Liveness {
  /** A member has greeted on a connection that has opened, which may be a second one after it has started again. */
  seen(peer: Peer): void
  /** The last connection to it has closed, or the other side has fallen silent. */
  gone(peer: Peer): void
}

const DEFAULTS = {
  /** Milliseconds for the greeting of the other side: one way through the network, once the connection is open. */
  greetingTimeout: 2_000,
  /**
   * Milliseconds after which this side says again that it is there. 32 connections cost 32 small packets a second in each direction,
   * half of them acknowledgements.
   */
  keepAlive: 2_000,
  /** Milliseconds of silence after which the other side counts as gone: two lost packets in a row are no death. */
  silence: 6_500,
  /** Connections that are kept. */
  maxMembers: 32,
}
export type MembershipOptions = Partial<typeof DEFAULTS>
export const MAX_MEMBERS = DEFAULTS.maxMembers

const GREETING = Uint8Array.of(1)
/**
 * Bytes that may come on a connection at once, and more of them in a millisecond: a greeting takes 60, and a sign of life 20 every
 * two seconds. A message that never ends would fill the memory.
 */
const [MOST_BYTES, BYTE_RATE] = [1_024, 0.1]

/** A sign of life is not sent again when less than this part of the time between two has passed. */
const TOO_SOON = 0.1

interface Member {
  /** The public key in hex. */
  readonly id: string
  readonly door: Peer
}

/**
 * Who is in the swarm and alive: connections on which both sides have greeted. Only members can open one, since all of its
 * packets are sealed; the greeting shows that the other side really is where the packets to it go, which is where its peer
 * door is. Nothing else is ever sent; a side that sends more, or nothing in time, is cut off.
 */
export class Membership {
  readonly #liveness: Liveness
  readonly #options: typeof DEFAULTS
  /** Connections, with the members that have greeted on them. */
  readonly #connections = new Map<SwarmConnection, Member | undefined>()
  /** Until the next sign of life, while there is any connection. */
  #beating: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(liveness: Liveness, options: MembershipOptions = {}) {
    this.#liveness = liveness
    this.#options = { ...DEFAULTS, ...options }
  }

  /** Members that have greeted, by their public key in hex. */
  get members(): ReadonlySet<string> {
    return new Set(this.#greeted.map(({ id }) => id))
  }

  /** How many connections are open, with and without a greeting. */
  get connections(): number {
    return this.#connections.size
  }

  /** Takes a connection that has just opened, in either direction. */
  take(connection: SwarmConnection): void {
    // Every end of a connection is a close as well; what went wrong on it is of no interest.
    connection.on('error', () => undefined)
    const { remotePublicKey, rawStream } = connection
    const { remoteHost: host, remotePort: port } = rawStream
    if (this.#closed || this.#connections.size >= this.#options.maxMembers || host === null) {
      connection.destroy()
      return
    }
    this.#connections.set(connection, undefined)
    const drop = () => connection.destroy()
    const timer = setTimeout(drop, this.#options.greetingTimeout)
    let allowed = MOST_BYTES
    let cameAt = performance.now()
    rawStream.on('data', ({ byteLength }) => {
      const now = performance.now()
      allowed = Math.min(allowed + (now - cameAt) * BYTE_RATE, MOST_BYTES) - byteLength
      cameAt = now
      if (allowed < 0) drop()
    })
    connection.on('data', () => {
      if (this.#connections.get(connection) !== undefined) return drop()
      clearTimeout(timer)
      const door = { host, port }
      this.#connections.set(connection, { id: b4a.toString(remotePublicKey, 'hex'), door })
      this.#liveness.seen(door)
    })
    connection.on('end', drop)
    connection.on('close', () => {
      clearTimeout(timer)
      const member = this.#connections.get(connection)
      this.#connections.delete(connection)
      if (this.#connections.size === 0) this.#rest()
      if (member !== undefined && !this.isConnectedTo(member.door)) this.#liveness.gone(member.door)
    })
    // Without a timer for each connection: see #beat.
    connection.setKeepAlive(0)
    if (this.#beating === undefined) this.#beat()
    connection.setTimeout(this.#options.silence)
    connection.write(GREETING)
  }

  /** Ends all connections, and every one that still comes. */
  close(): void {
    this.#closed = true
    this.#rest()
    for (const connection of this.#connections.keys()) connection.destroy()
  }

  /** Whether a member with that peer door has greeted. */
  isConnectedTo(door: Peer): boolean {
    return this.#greeted.some((member) => addressOf(member.door) === addressOf(door))
  }

  /**
   * Says on all connections that this side is there, now and then, by one timer. It beats in time with the clock of the machine: where
   * the clocks of a cluster agree, a node sends and receives all signs of life at one moment, and wakes up for them once.
   */
  #beat(): void {
    const { keepAlive } = this.#options
    const left = keepAlive - (Date.now() % keepAlive)
    const wait = left < keepAlive * TOO_SOON ? left + keepAlive : left
    this.#beating = setTimeout(() => {
      for (const connection of this.#connections.keys()) connection.sendKeepAlive()
      this.#beat()
    }, wait)
    this.#beating.unref()
  }

  #rest(): void {
    clearTimeout(this.#beating)
    this.#beating = undefined
  }

  get #greeted(): Member[] {
    return [...this.#connections.values()].filter((member) => member !== undefined)
  }
}
