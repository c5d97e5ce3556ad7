import b4a from 'b4a'
import { addressOf } from '../../platform/address.ts'
import { BEAT, nextBeat, systemClock } from '../../platform/clock.ts'
import type { Peer } from '../router.ts'

/** The part of a Hyperswarm connection, a Noise stream over UDX, that is used here. */
export interface SwarmConnection {
  readonly remotePublicKey: Uint8Array
  /** The other side's address; missing once the connection is closed. */
  readonly rawStream: {
    readonly remoteHost: string | null
    readonly remotePort: number
    on(event: 'data' | 'message', listener: (data: Uint8Array) => void): unknown
  }
  /** `data`: bytes in order. `message`: single messages in any order. */
  on(event: 'data' | 'message', listener: (data: Uint8Array) => void): unknown
  on(event: 'end' | 'close' | 'error', listener: () => void): unknown
  write(data: Uint8Array): boolean
  /** Sends a message once, without an acknowledgement. */
  trySend(message: Uint8Array): void
  destroy(): void
  /** Sets after how many milliseconds without a write it sends an empty message itself; 0: never. */
  setKeepAlive(milliseconds: number): void
}

/** Told which members are alive. */
export interface Liveness {
  /** Called when a member has greeted on a new connection. It may be a second connection, after the member has restarted. */
  seen(peer: Peer): void
  /** Called when the last connection to a member has closed, or the member has fallen silent. */
  gone(peer: Peer): void
}

const DEFAULTS = {
  /** Milliseconds for the greeting of the other side. It takes one way through the network once the connection is open. */
  greetingTimeout: 2_000,
  /** Milliseconds between two signs of life of this side. 32 connections cost 16 small packets a second in each direction. */
  keepAlive: BEAT,
  /** Milliseconds of silence after which the other side counts as gone, so that two lost packets in a row do not matter. */
  silence: 6_500,
  /** How many connections are kept. */
  maxMembers: 32,
}
export type MembershipOptions = Partial<typeof DEFAULTS>
export const MAX_MEMBERS = DEFAULTS.maxMembers

const GREETING = Uint8Array.of(1)
/**
 * How many bytes may come on a connection at once, and how many more per millisecond. A greeting has 60 bytes, and a sign of
 * life 24 every two seconds. An endless message would fill the memory.
 */
const [MOST_BYTES, BYTE_RATE] = [1_024, 0.1]

/** No sign of life is sent if less than this part of the interval has passed since the last one. */
const TOO_SOON = 0.1
const SIGN_OF_LIFE = new Uint8Array()

interface Connected {
  /** The public key of the other side in hex, and its peer door. */
  readonly id: string
  readonly door: Peer
  /** Whether the other side has greeted, and so is a member. */
  hasGreeted: boolean
  /** When it last gave a sign of life. */
  heardAt: number
}

/**
 * The members that are connected and alive: both sides of a connection have greeted. Only members can open a connection,
 * because all its packets are sealed. The greeting shows that the other side really is at the address to which packets go,
 * which is that of its peer door. Nothing else is ever sent. A side that sends more, or nothing in time, is cut off.
 */
export function createMembership(liveness: Liveness, given: MembershipOptions = {}, clock = systemClock) {
  const { greetingTimeout, keepAlive, silence, maxMembers } = { ...DEFAULTS, ...given }
  const connections = new Map<SwarmConnection, Connected>()
  /** The timer for the next sign of life, while there is any connection. */
  let beating: ReturnType<typeof setTimeout> | undefined
  let closed = false

  const greeted = (): Connected[] => [...connections.values()].filter(({ hasGreeted }) => hasGreeted)
  const isConnectedTo = (door: Peer) => greeted().some((member) => addressOf(member.door) === addressOf(door))

  /** At every beat, sends a sign of life on all connections, with one timer, and looks which other sides have fallen silent. */
  function beat(): void {
    const now = clock.now()
    const wait = nextBeat(clock, now + keepAlive * TOO_SOON, keepAlive) - now
    beating = setTimeout(() => {
      for (const [connection, connected] of connections) {
        connection.trySend(SIGN_OF_LIFE)
        dropSilent(connection, connected)
      }
      beat()
    }, wait)
    beating.unref()
  }

  /** Ends a connection whose other side is silent now, or becomes silent before the next beat. */
  function dropSilent(connection: SwarmConnection, connected: Connected): void {
    const left = connected.heardAt + silence - clock.now()
    if (left <= 0) connection.destroy()
    else if (left < keepAlive) setTimeout(() => dropSilent(connection, connected), left).unref()
  }

  function rest(): void {
    clearTimeout(beating)
    beating = undefined
  }

  return {
    /** The members that have greeted, by their public keys in hex. */
    get members(): ReadonlySet<string> {
      return new Set(greeted().map(({ id }) => id))
    },

    /** Whether the member with that peer door is connected and has greeted. */
    isConnectedTo,

    /** Takes a connection that has just been opened by either side. */
    take(connection: SwarmConnection): void {
      // A connection that fails also closes, and the error does not matter.
      connection.on('error', () => undefined)
      const { remotePublicKey, rawStream } = connection
      const { remoteHost: host, remotePort: port } = rawStream
      if (closed || connections.size >= maxMembers || host === null) {
        connection.destroy()
        return
      }
      const id = b4a.toString(remotePublicKey, 'hex')
      const connected: Connected = { id, door: { host, port }, hasGreeted: false, heardAt: clock.now() }
      connections.set(connection, connected)
      const drop = () => connection.destroy()
      const timer = setTimeout(drop, greetingTimeout)
      let allowed = MOST_BYTES
      let cameAt = clock.now()
      const count = ({ byteLength }: Uint8Array) => {
        const now = clock.now()
        allowed = Math.min(allowed + (now - cameAt) * BYTE_RATE, MOST_BYTES) - byteLength
        cameAt = now
        if (allowed < 0) drop()
      }
      rawStream.on('data', count)
      rawStream.on('message', count)
      connection.on('message', () => {
        connected.heardAt = clock.now()
      })
      connection.on('data', () => {
        if (connected.hasGreeted) return drop()
        clearTimeout(timer)
        connected.heardAt = clock.now()
        connected.hasGreeted = true
        liveness.seen(connected.door)
      })
      connection.on('end', drop)
      connection.on('close', () => {
        clearTimeout(timer)
        connections.delete(connection)
        if (connections.size === 0) rest()
        const { door, hasGreeted } = connected
        if (hasGreeted && !isConnectedTo(door)) liveness.gone(door)
      })
      // No timer for each connection, and no acknowledged messages: see beat.
      connection.setKeepAlive(0)
      if (beating === undefined) beat()
      connection.write(GREETING)
    },

    /** Ends all connections, and every later one. */
    close(): void {
      closed = true
      rest()
      for (const connection of connections.keys()) connection.destroy()
    },
  }
}
