/** Peers that send bytes at a rate, over connections with buffers, in time that passes as fast as the machine can compute. */
import { setImmediate } from 'node:timers/promises'
import { PeerError } from '../../lib/peers/error.ts'
import { onAbort } from '../../lib/platform/abort.ts'
import { addressOf } from '../../lib/platform/address.ts'
import type { ByteSource } from '../../lib/platform/byte-source.ts'
import type { Clock } from '../../lib/platform/clock.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import { PieceRefusal, type Span } from '../../lib/transfer/piece.ts'
import { peerOf } from './peers.ts'

/** What a peer does from some time on. */
export type Behaviour =
  | 'gives'
  /** Sends nothing more on any connection. */
  | 'silent'
  /** Ends all connections, and refuses new ones. */
  | 'refuses'
  /** Answers new requests with 404. */
  | 'missing'
  /** Answers new requests with 503. */
  | 'busy'
  /** Ends bodies early, without an error. */
  | 'short'

export interface SimulatedPeer {
  readonly name: string
  readonly address: Peer
  /** Bytes per millisecond that the peer sends. */
  rate: number
  behaviour: Behaviour
}

export interface NetworkOptions {
  /** Bytes per millisecond that the asker takes. */
  readonly link?: number
  /** Milliseconds of a round trip. */
  readonly roundTrip?: number
  /** How many bytes of a connection may wait unread. */
  readonly buffer?: number
  /** Milliseconds after which a busy peer wants to be asked again. */
  readonly retryAfter?: number
}

const TICK = 1
const CHUNK = 128 * 1024

/** A clock whose time passes when all other work waits. */
export class VirtualClock implements Clock {
  #now = 0
  readonly #timers = new Set<{ readonly at: number; readonly run: () => void }>()

  now(): number {
    return this.#now
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + Math.max(ms, 0), run }
    this.#timers.add(timer)
    return () => void this.#timers.delete(timer)
  }

  /** Waits, in work that {@link run} runs. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve))
  }

  async pass(ms: number): Promise<void> {
    await this.run(this.sleep(ms))
  }

  /** How many timers run. */
  get pending(): number {
    return this.#timers.size
  }

  /**
   * Lets time pass until the work is done.
   *
   * @throws {Error} if the work is not done by that time, or waits for something that never happens
   */
  async run<T>(work: Promise<T>, most = 3_600_000): Promise<T> {
    let isDone = false
    const done = () => {
      isDone = true
    }
    work.then(done, done)
    for (;;) {
      await setImmediate()
      if (isDone) return await work
      let next = Number.POSITIVE_INFINITY
      for (const { at } of this.#timers) next = Math.min(next, at)
      if (next > most) throw new Error(`not done at ${this.#now} ms`)
      this.#now = next
      // Timers that are set from here on get their turn afterwards.
      for (const timer of [...this.#timers]) {
        if (timer.at <= next && this.#timers.delete(timer)) timer.run()
      }
    }
  }
}

/** A body on its way. */
interface Stream {
  readonly peer: SimulatedPeer
  readonly span: Span
  /** How many bytes have arrived, and how many have been read. */
  arrived: number
  read: number
  state: 'open' | 'broken' | 'short' | 'cancelled'
  wake: () => void
}

export class SimulatedNetwork {
  readonly clock = new VirtualClock()
  readonly peers: SimulatedPeer[] = []
  /** How many bytes have been sent, and how many have been asked for, in all. */
  sent = 0
  asked = 0
  requests = 0
  readonly #content: Uint8Array
  readonly #options: Required<NetworkOptions>
  readonly #streams = new Set<Stream>()
  #isTicking = false

  constructor(content: Uint8Array, options: NetworkOptions = {}) {
    this.#content = content
    this.#options = { link: 1_000_000, roundTrip: 1, buffer: 1024 * 1024, retryAfter: 1_000, ...options }
  }

  /** How many bodies are under way, and how many of them have been read from. */
  get open(): number {
    return this.#streams.size
  }

  get begun(): number {
    return [...this.#streams].filter(({ read }) => read > 0).length
  }

  /** @param rate bytes per millisecond */
  add(name: string, rate: number, behaviour: Behaviour = 'gives'): SimulatedPeer {
    const peer = { name, address: peerOf(name), rate, behaviour }
    this.peers.push(peer)
    return peer
  }

  /** Changes what a peer does, on existing connections too. */
  set(peer: SimulatedPeer, behaviour: Behaviour): void {
    peer.behaviour = behaviour
    for (const stream of this.#streams) {
      if (stream.peer !== peer) continue
      if (behaviour === 'refuses') stream.state = 'broken'
      if (behaviour === 'short') stream.state = 'short'
      stream.wake()
    }
    this.#tick()
  }

  async ask(address: Peer, span: Span, signal: AbortSignal): Promise<ByteSource> {
    const peer = this.peers.find((one) => addressOf(one.address) === addressOf(address))
    if (peer === undefined) throw new Error('no such peer')
    // A Range header names bytes by whole numbers; a door would ignore any other one and send the whole content.
    if (!Number.isInteger(span.start) || !Number.isInteger(span.end)) throw new Error(`${span.start}-${span.end}`)
    this.requests++
    this.asked += span.end - span.start
    await this.#pass(this.#options.roundTrip, signal)
    if (peer.behaviour === 'silent') await this.#pass(Number.POSITIVE_INFINITY, signal)
    if (peer.behaviour === 'refuses') throw new PeerError('refused')
    if (peer.behaviour === 'missing') throw new PieceRefusal()
    if (peer.behaviour === 'busy') throw new PieceRefusal(this.#options.retryAfter)
    const stream: Stream = {
      peer,
      span,
      arrived: 0,
      read: 0,
      state: peer.behaviour === 'short' ? 'short' : 'open',
      wake: () => undefined,
    }
    this.#streams.add(stream)
    this.#tick()
    return this.#bodyOf(stream)
  }

  async #pass(ms: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    using _ = onAbort(signal, () => reject(new PeerError('cancelled')))
    const cancel = Number.isFinite(ms) ? this.clock.after(ms, resolve) : () => undefined
    try {
      await promise
    } finally {
      cancel()
    }
  }

  #bodyOf(stream: Stream): ByteSource {
    const length = stream.span.end - stream.span.start
    return {
      next: async () => {
        for (;;) {
          if (stream.state === 'cancelled') throw new PeerError('the body was cancelled')
          const ready = Math.min(stream.arrived - stream.read, CHUNK)
          if (ready > 0) {
            const start = stream.span.start + stream.read
            const chunk = this.#content.subarray(start, start + ready)
            stream.read += ready
            if (stream.read === length) this.#streams.delete(stream)
            this.#tick()
            return chunk
          }
          if (stream.read === length) return undefined
          if (stream.state === 'broken') throw new PeerError('the connection broke')
          if (stream.state === 'short') return undefined
          await new Promise<void>((resolve) => {
            stream.wake = resolve
          })
        }
      },
      cancel: async () => {
        stream.state = 'cancelled'
        this.#streams.delete(stream)
        stream.wake()
      },
    }
  }

  /** Moves bytes every millisecond, as long as there are any to move. */
  #tick(): void {
    if (this.#isTicking) return
    this.#isTicking = true
    this.clock.after(TICK, () => {
      this.#isTicking = false
      const open = (stream: Stream) =>
        stream.state === 'open' && stream.peer.behaviour !== 'silent' && this.#roomOf(stream) > 0
      const moving = [...this.#streams].filter(open)
      const wants = moving.map((stream) => {
        const beside = moving.filter(({ peer }) => peer === stream.peer).length
        return Math.min((stream.peer.rate * TICK) / beside, this.#roomOf(stream))
      })
      const all = wants.reduce((sum, want) => sum + want, 0)
      const part = Math.min(1, (this.#options.link * TICK) / all)
      for (const [index, stream] of moving.entries()) {
        const before = Math.floor(stream.arrived)
        stream.arrived += Math.ceil((wants[index] ?? 0) * part)
        stream.arrived = Math.min(stream.arrived, stream.span.end - stream.span.start)
        this.sent += stream.arrived - before
        stream.wake()
      }
      if (moving.length > 0) this.#tick()
    })
  }

  #roomOf({ span, arrived, read }: Stream): number {
    return Math.min(span.end - span.start - arrived, this.#options.buffer - (arrived - read))
  }
}
