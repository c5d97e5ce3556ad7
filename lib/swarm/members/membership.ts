import b4a from 'b4a'
import { addressOf } from '../../platform/address.ts'
import { BEAT, type Clock, nextBeat, systemClock } from '../../platform/clock.ts'
import type { Peer } from '../router.ts'

/** The part of a Hyperswarm connection, a Noise stream over UDX, that is used here. */
export interface SwarmConnection {
  readonly remotePublicKey: Uint8Array
  /** Where its packets come from; without an address once it is closed. */
  readonly rawStream: {
    readonly remoteHost: string | null
    readonly remotePort: number
    on(event: 'data' | 'message', listener: (data: Uint8Array) => void): unknown
  }
  /** What came, in order; and messages by themselves, without order. */
  on(event: 'data' | 'message', listener: (data: Uint8Array) => void): unknown
  on(event: 'end' | 'close' | 'error', listener: () => void): unknown
  write(data: Uint8Array): boolean
  /** Sends a message once, of which nothing is acknowledged. */
  trySend(message: Uint8Array): void
  destroy(): void
  /** Milliseconds after which it writes an empty message of its own if nothing else was written; 0: never. */
  setKeepAlive(milliseconds: number): void
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
  /** Milliseconds after which this side says again that it is there. 32 connections cost 16 small packets a second in each direction. */
  keepAlive: BEAT,
  /** Milliseconds of silence after which the other side counts as gone: two lost packets in a row are no death. */
  silence: 6_500,
  /** Connections that are kept. */
  maxMembers: 32,
}
export type MembershipOptions = Partial<typeof DEFAULTS>
export const MAX_MEMBERS = DEFAULTS.maxMembers

const GREETING = Uint8Array.of(1)
/**
 * Bytes that may come on a connection at once, and more of them in a millisecond: a greeting takes 60, and a sign of life 24 every
 * two seconds. A message that never ends would fill the memory.
 */
const [MOST_BYTES, BYTE_RATE] = [1_024, 0.1]

/** A sign of life is not sent again when less than this part of the time between two has passed. */
const TOO_SOON = 0.1
const SIGN_OF_LIFE = new Uint8Array()

interface Member {
  /** The public key in hex. */
  readonly id: string
  readonly door: Peer
}

interface Connected {
  /** The member that has greeted. */
  member?: Member
  /** When the other side last said that it is there. */
  heardAt: number
}

/**
 * Who is in the swarm and alive: connections on which both sides have greeted. Only members can open one, since all of its
 * packets are sealed; the greeting shows that the other side really is where the packets to it go, which is where its peer
 * door is. Nothing else is ever sent; a side that sends more, or nothing in time, is cut off.
 */
export class Membership {
  readonly #liveness: Liveness
  readonly #options: typeof DEFAULTS
  readonly #clock: Clock
  readonly #connections = new Map<SwarmConnection, Connected>()
  /** Until the next sign of life, while there is any connection. */
  #beating: ReturnType<typeof setTimeout> | undefined
  #closed = false

  constructor(liveness: Liveness, options: MembershipOptions = {}, clock = systemClock) {
    this.#liveness = liveness
    this.#options = { ...DEFAULTS, ...options }
    this.#clock = clock
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
    const connected: Connected = { heardAt: this.#clock.now() }
    this.#connections.set(connection, connected)
    const drop = () => connection.destroy()
    const timer = setTimeout(drop, this.#options.greetingTimeout)
    let allowed = MOST_BYTES
    let cameAt = this.#clock.now()
    const count = ({ byteLength }: Uint8Array) => {
      const now = this.#clock.now()
      allowed = Math.min(allowed + (now - cameAt) * BYTE_RATE, MOST_BYTES) - byteLength
      cameAt = now
      if (allowed < 0) drop()
    }
    rawStream.on('data', count)
    rawStream.on('message', count)
    connection.on('message', () => {
      connected.heardAt = this.#clock.now()
    })
    connection.on('data', () => {
      if (connected.member !== undefined) return drop()
      clearTimeout(timer)
      const door = { host, port }
      connected.heardAt = this.#clock.now()
      connected.member = { id: b4a.toString(remotePublicKey, 'hex'), door }
      this.#liveness.seen(door)
    })
    connection.on('end', drop)
    connection.on('close', () => {
      clearTimeout(timer)
      const { member } = connected
      this.#connections.delete(connection)
      if (this.#connections.size === 0) this.#rest()
      if (member !== undefined && !this.isConnectedTo(member.door)) this.#liveness.gone(member.door)
    })
    // Without a timer for each connection, and nothing that is acknowledged: see #beat.
    connection.setKeepAlive(0)
    if (this.#beating === undefined) this.#beat()
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

  /** Says on all connections that this side is there, at every beat, by one timer; and looks which other side has fallen silent. */
  #beat(): void {
    const { keepAlive } = this.#options
    const now = this.#clock.now()
    const wait = nextBeat(this.#clock, now + keepAlive * TOO_SOON, keepAlive) - now
    this.#beating = setTimeout(() => {
      for (const [connection, connected] of this.#connections) {
        connection.trySend(SIGN_OF_LIFE)
        this.#dropSilent(connection, connected)
      }
      this.#beat()
    }, wait)
    this.#beating.unref()
  }

  /** Ends a connection whose other side is silent, now or as soon as that is so before the next beat. */
  #dropSilent(connection: SwarmConnection, connected: Connected): void {
    const { keepAlive, silence } = this.#options
    const left = connected.heardAt + silence - this.#clock.now()
    if (left <= 0) connection.destroy()
    else if (left < keepAlive) setTimeout(() => this.#dropSilent(connection, connected), left).unref()
  }

  #rest(): void {
    clearTimeout(this.#beating)
    this.#beating = undefined
  }

  get #greeted(): Member[] {
    return [...this.#connections.values()].flatMap(({ member }) => member ?? [])
  }
}
