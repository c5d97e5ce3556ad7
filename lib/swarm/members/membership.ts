import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'

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

/** Told of members, by their Hyperswarm public key in hex. */
export interface Liveness {
  /** A proven connection to it has opened, or is still open: told again every few seconds. */
  seen(peerId: string): void
  /** The connection has closed, or the other side has fallen silent. */
  gone(peerId: string): void
}

export interface MembershipOptions {
  /** Milliseconds within which the other side must have proven that it knows the swarm key. */
  readonly proofTimeout?: number
  /** Milliseconds of quiet after which this side says that it is there. */
  readonly keepAlive?: number
  /** Milliseconds of silence after which the other side counts as gone. */
  readonly silence?: number
  /** Connections that are kept. */
  readonly maxMembers?: number
  /** Connections that have not proven anything yet; beyond that the oldest of them is ended. */
  readonly maxUnproven?: number
}

/** A proof takes one way through the network, once the connection is open. */
const PROOF_TIMEOUT = 2_000
/** 32 connections that are quiet cost 32 small packets a second in each direction, half of them acknowledgements. */
const KEEP_ALIVE = 2_000
/** Two lost packets in a row are no death. */
const SILENCE = 6_500
export const MAX_MEMBERS = 32
const MAX_UNPROVEN = 16
/** Bytes that may come from who has proven nothing yet: a proof takes 53 of them, framed and sealed. */
const MOST_UNPROVEN_BYTES = 1_024

const PURPOSE = 'swarmirror/membership/1'
const PROOF_LENGTH = 32

/**
 * Who is in the swarm and alive: connections of which both sides have proven that they know a swarm key. Each side sends
 * an HMAC of the handshake hash and its role, which is worth nothing on any other connection and cannot be sent back.
 * Nothing else is ever said; who says more, or nothing in time, is cut off.
 */
export class Membership {
  readonly #secrets: readonly Uint8Array[]
  readonly #liveness: Liveness
  readonly #options: Required<MembershipOptions>
  readonly #members = new Map<string, SwarmConnection>()
  readonly #unproven = new Set<SwarmConnection>()
  #closed = false

  /**
   * @param swarmKeys proofs are made with the first and accepted under all
   * @throws {RangeError} without any key
   */
  constructor(swarmKeys: readonly Uint8Array[], liveness: Liveness, options: MembershipOptions = {}) {
    if (swarmKeys.length === 0) throw new RangeError('expected at least one swarm key')
    this.#secrets = swarmKeys.map((key) => new Uint8Array(hkdfSync('sha256', key, '', PURPOSE, 32)))
    this.#liveness = liveness
    this.#options = {
      proofTimeout: options.proofTimeout ?? PROOF_TIMEOUT,
      keepAlive: options.keepAlive ?? KEEP_ALIVE,
      silence: options.silence ?? SILENCE,
      maxMembers: options.maxMembers ?? MAX_MEMBERS,
      maxUnproven: options.maxUnproven ?? MAX_UNPROVEN,
    }
  }

  /** Members with a proven connection, by their public key in hex. */
  get members(): ReadonlySet<string> {
    return new Set(this.#members.keys())
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
    const id = Buffer.from(connection.remotePublicKey).toString('hex')
    const drop = () => connection.destroy()
    const timer = setTimeout(drop, this.#options.proofTimeout)
    let received = 0
    connection.rawStream.on('data', ({ byteLength }) => {
      received += byteLength
      if (this.#unproven.has(connection) && received > MOST_UNPROVEN_BYTES) drop()
    })
    connection.on('data', (proof) => {
      if (!this.#unproven.delete(connection) || !this.#isProof(proof, connection)) return drop()
      clearTimeout(timer)
      this.#members.set(id, connection)
      this.#liveness.seen(id)
    })
    connection.on('end', drop)
    connection.on('close', () => {
      clearTimeout(timer)
      this.#unproven.delete(connection)
      if (this.#members.get(id) !== connection) return
      this.#members.delete(id)
      this.#liveness.gone(id)
    })
    const [oldest] = this.#unproven
    this.#unproven.add(connection)
    if (this.#unproven.size > this.#options.maxUnproven) oldest?.destroy()
    connection.setKeepAlive(this.#options.keepAlive)
    connection.setTimeout(this.#options.silence)
    const [used] = this.#secrets
    if (used !== undefined) connection.write(proofOf(used, connection.handshakeHash, connection.isInitiator))
  }

  /** Ends all connections, and every one that still comes. */
  close(): void {
    this.#closed = true
    for (const connection of [...this.#unproven, ...this.#members.values()]) connection.destroy()
  }

  #isProof(proof: Uint8Array, { handshakeHash, isInitiator }: SwarmConnection): boolean {
    if (proof.byteLength !== PROOF_LENGTH) return false
    let right = false
    for (const secret of this.#secrets) {
      if (timingSafeEqual(proof, proofOf(secret, handshakeHash, !isInitiator))) right = true
    }
    return right
  }
}

function proofOf(secret: Uint8Array, handshakeHash: Uint8Array, isInitiator: boolean): Uint8Array {
  const role = isInitiator ? 'initiator' : 'responder'
  return new Uint8Array(createHmac('sha256', secret).update(`${role}\n`).update(handshakeHash).digest())
}
