import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import b4a from 'b4a'
import { addressOf } from '../../platform/address.ts'
import { COMPACT_LENGTH, compact, fromCompact, type NodeAddress } from '../node.ts'
import type { Peer } from '../router.ts'

/** The part of a Hyperswarm connection, a Noise stream over UDX, that is used here. */
export interface SwarmConnection {
  readonly remotePublicKey: Uint8Array
  /** Of the Noise handshake: it binds the keys of both sides, and no two connections have the same. */
  readonly handshakeHash: Uint8Array
  readonly isInitiator: boolean
  readonly rawStream: { on(event: 'data', listener: (data: Uint8Array) => void): unknown }
  on(event: 'data', listener: (data: Uint8Array) => void): unknown
  on(event: 'end' | 'close' | 'error', listener: () => void): unknown
  write(data: Uint8Array): boolean
  destroy(): void
  /** Milliseconds after which an empty message is sent if nothing else was. */
  setKeepAlive(milliseconds: number): void
  /** Milliseconds of silence after which the connection is destroyed. */
  setTimeout(milliseconds: number): void
}

/** Learns which members are alive. */
export interface Liveness {
  /** A proven connection to it has opened, which may be a second one after it has started again. */
  seen(peer: Peer): void
  /** The last connection to it has closed, or the other side has fallen silent. */
  gone(peer: Peer): void
}

const DEFAULTS = {
  /** Milliseconds for the other side to prove that it knows the swarm key: one way through the network, once the connection is open. */
  proofTimeout: 2_000,
  /**
   * Milliseconds of quiet after which this side says that it is there. 32 quiet connections cost 32 small packets a second in each
   * direction, half of them acknowledgements.
   */
  keepAlive: 2_000,
  /** Milliseconds of silence after which the other side counts as gone: two lost packets in a row are no death. */
  silence: 6_500,
  /** Connections that are kept. */
  maxMembers: 32,
  /** Connections without a proof yet; beyond that number the oldest of them is ended. */
  maxUnproven: 16,
}
export type MembershipOptions = Partial<typeof DEFAULTS>
export const MAX_MEMBERS = DEFAULTS.maxMembers

/** Bytes that may come on a connection before its proof, which takes 59 of them, framed and sealed. */
const MOST_UNPROVEN_BYTES = 1_024

const PURPOSE = 'swarmirror/membership/2'
/** A proof is an HMAC-SHA256 and the compact address of the sender's peer door. */
const MAC_LENGTH = 32
const PROOF_LENGTH = MAC_LENGTH + COMPACT_LENGTH

interface Member {
  /** The public key in hex. */
  readonly id: string
  readonly door: Peer
}

/**
 * Who is in the swarm and alive: connections on which both sides have proven that they know a swarm key. Each side sends
 * the address of its peer door and an HMAC of that, the handshake hash and its role, which is worth nothing on any other
 * connection and cannot be sent back. Nothing else is ever sent; a side that sends more, or nothing in time, is cut off.
 */
export class Membership {
  readonly #secrets: readonly Uint8Array[]
  readonly #door: NodeAddress
  readonly #liveness: Liveness
  readonly #options: typeof DEFAULTS
  readonly #members = new Map<SwarmConnection, Member>()
  readonly #unproven = new Set<SwarmConnection>()
  #closed = false

  /**
   * @param swarmKeys proofs are made with the first and accepted under all
   * @param door of this node
   * @throws {RangeError} without any key
   */
  constructor(
    swarmKeys: readonly Uint8Array[],
    door: NodeAddress,
    liveness: Liveness,
    options: MembershipOptions = {},
  ) {
    if (swarmKeys.length === 0) throw new RangeError('expected at least one swarm key')
    this.#secrets = swarmKeys.map((key) => new Uint8Array(hkdfSync('sha256', key, '', PURPOSE, 32)))
    this.#door = door
    this.#liveness = liveness
    this.#options = { ...DEFAULTS, ...options }
  }

  /** Members with a proven connection, by their public key in hex. */
  get members(): ReadonlySet<string> {
    return new Set([...this.#members.values()].map(({ id }) => id))
  }

  /** How many connections wait for their proof. */
  get unproven(): number {
    return this.#unproven.size
  }

  /** Takes a connection that has just opened, in either direction. */
  take(connection: SwarmConnection): void {
    // Every end of a connection is a close as well; what went wrong on it is of no interest.
    connection.on('error', () => undefined)
    if (this.#closed || this.#members.size >= this.#options.maxMembers) {
      connection.destroy()
      return
    }
    const id = b4a.toString(connection.remotePublicKey, 'hex')
    const drop = () => connection.destroy()
    const timer = setTimeout(drop, this.#options.proofTimeout)
    let received = 0
    connection.rawStream.on('data', ({ byteLength }) => {
      received += byteLength
      if (this.#unproven.has(connection) && received > MOST_UNPROVEN_BYTES) drop()
    })
    connection.on('data', (proof) => {
      const door = this.#unproven.delete(connection) ? this.#doorOf(proof, connection) : undefined
      if (door === undefined) return drop()
      clearTimeout(timer)
      this.#members.set(connection, { id, door })
      this.#liveness.seen(door)
    })
    connection.on('end', drop)
    connection.on('close', () => {
      clearTimeout(timer)
      this.#unproven.delete(connection)
      const member = this.#members.get(connection)
      this.#members.delete(connection)
      if (member !== undefined && !this.#isConnectedTo(member.door)) this.#liveness.gone(member.door)
    })
    const [oldest] = this.#unproven
    this.#unproven.add(connection)
    if (this.#unproven.size > this.#options.maxUnproven) oldest?.destroy()
    connection.setKeepAlive(this.#options.keepAlive)
    connection.setTimeout(this.#options.silence)
    const [used] = this.#secrets
    if (used !== undefined) connection.write(proofOf(used, connection, connection.isInitiator, compact(this.#door)))
  }

  /** Ends all connections, and every one that still comes. */
  close(): void {
    this.#closed = true
    for (const connection of [...this.#unproven, ...this.#members.keys()]) connection.destroy()
  }

  /** The door that a proof names; `undefined` if it proves nothing. */
  #doorOf(proof: Uint8Array, connection: SwarmConnection): Peer | undefined {
    if (proof.byteLength !== PROOF_LENGTH) return undefined
    const door = proof.subarray(MAC_LENGTH)
    let right = false
    for (const secret of this.#secrets) {
      if (timingSafeEqual(proof, proofOf(secret, connection, !connection.isInitiator, door))) right = true
    }
    return right ? fromCompact(door) : undefined
  }

  #isConnectedTo(door: Peer): boolean {
    return [...this.#members.values()].some((member) => addressOf(member.door) === addressOf(door))
  }
}

function proofOf(
  secret: Uint8Array,
  { handshakeHash }: Pick<SwarmConnection, 'handshakeHash'>,
  isInitiator: boolean,
  door: Uint8Array,
): Uint8Array {
  const role = isInitiator ? 'initiator' : 'responder'
  const mac = createHmac('sha256', secret).update(`${role}\n`).update(handshakeHash).update(door).digest()
  return b4a.concat([mac, door])
}
