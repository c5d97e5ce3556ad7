import { type Clock, systemClock } from '../../platform/clock.ts'
import type { NodeAddress } from '../node.ts'
import type { KnownNode, NetworkMap } from './network-map.ts'
import type { DhtNode, DhtReply, DhtRpc, StoreOutcome } from './rpc.ts'

export interface DhtClientDependencies {
  readonly rpc: DhtRpc
  readonly map: NetworkMap
  readonly clock?: Clock
}

/** Milliseconds for which a token is used. Nodes change their secret every 7.5 s and still take tokens of the one before. */
export const TOKEN_LIFE = 7_000
/**
 * Milliseconds by which a timeout may come late. Beyond that this process stood still and answers may be there unread, so
 * nobody is to blame.
 */
const STALL = 250
/** Weights of a new sample, and how many deviations above the mean an answer may still come: those of RFC 6298. */
const MEAN_WEIGHT = 1 / 8
const DEVIATION_WEIGHT = 1 / 4
const DEVIATIONS = 4
/** Milliseconds to wait for an answer, at least and at most. hyperdht itself always waits for one second. */
const BOUNDS = [1_000, 4_000] as const
/** Milliseconds that no answer takes within a cluster, unless a node has more to do than it gets done. */
export const SLOW = 400

interface Token {
  readonly value: Promise<Uint8Array | undefined>
  readonly until: number
}

/** Asks single nodes of the DHT. What they answer, or do not, goes into the map; their tokens are kept. */
export class DhtClient {
  readonly map: NetworkMap
  readonly #rpc: DhtRpc
  readonly #clock: Clock
  readonly #tokens = new WeakMap<KnownNode, Token>()
  readonly #answerTime = new AnswerTime()
  #requests = 0
  #silent = 0

  constructor({ rpc, map, clock = systemClock }: DhtClientDependencies) {
    this.map = map
    this.#rpc = rpc
    this.#clock = clock
  }

  /** Requests sent so far, and those of them that were not answered in time. */
  get figures(): { readonly requests: number; readonly silent: number } {
    return { requests: this.#requests, silent: this.#silent }
  }

  /** Whether answers come so slowly that nothing should be asked that can wait. */
  get isSlow(): boolean {
    return this.#answerTime.isSlow
  }

  nodeAt({ host, port }: NodeAddress): DhtNode {
    return { host, port, id: this.#rpc.idOf({ host, port }) }
  }

  /** What a node knows of a target; `undefined` when it does not answer in time. */
  async ask(node: DhtNode, target: Uint8Array): Promise<DhtReply | undefined> {
    const sentAt = this.#clock.now()
    const reply = await this.#request(node, (timeout) => this.#rpc.ask(node, target, timeout))
    if (reply === undefined) return undefined
    const { token, closer } = reply
    for (const address of closer) {
      if (this.map.get(address) === undefined && !this.map.isLost(address)) this.map.named(this.nodeAt(address))
    }
    if (token === undefined) {
      // It answers, but stores nothing: to the map it is as good as gone.
      this.map.silent(node, sentAt, this.#clock.now())
      return reply
    }
    const known = this.map.answered(node, this.#clock.now())
    if (known !== undefined) {
      this.#tokens.set(known, { value: Promise.resolve(token), until: this.#clock.now() + TOKEN_LIFE })
    }
    return reply
  }

  /** Stores this node's record of a topic at a node; `undefined` when it does not answer in time. */
  store(node: KnownNode, topic: Uint8Array): Promise<StoreOutcome | undefined> {
    return this.#withToken(node, topic, (token, timeout) => this.#rpc.store(node, topic, token, timeout))
  }

  /** Removes this node's record of a topic from a node; `undefined` when it does not answer in time. */
  remove(node: KnownNode, topic: Uint8Array): Promise<StoreOutcome | undefined> {
    return this.#withToken(node, topic, (token, timeout) => this.#rpc.remove(node, topic, token, timeout))
  }

  /** The public key of a node's Hyperswarm connections; `undefined` when it does not answer in time. */
  identify(node: KnownNode): Promise<Uint8Array | undefined> {
    return this.#request(node, (timeout) => this.#rpc.identify(node, timeout))
  }

  /** Tries again with a new token if the first is not good any more, for example because the node was restarted. */
  async #withToken(
    node: KnownNode,
    topic: Uint8Array,
    run: (token: Uint8Array, timeout: number) => Promise<StoreOutcome | undefined>,
  ): Promise<StoreOutcome | undefined> {
    for (let attempt = 0; ; attempt++) {
      const token = await this.#token(node, topic)
      if (token === undefined) return undefined
      const outcome = await this.#request(node, (timeout) => run(token, timeout))
      if (outcome === 'done' || outcome === 'full') this.map.answered(node, this.#clock.now())
      if (outcome !== 'refused') return outcome
      this.#tokens.delete(node)
      if (attempt === 0) continue
      this.map.lose(node, this.#clock.now())
      return outcome
    }
  }

  #token(node: KnownNode, topic: Uint8Array): Promise<Uint8Array | undefined> {
    const now = this.#clock.now()
    const kept = this.#tokens.get(node)
    if (kept !== undefined && kept.until > now) return kept.value
    // Should the node know closer nodes to the topic than the map does, its answer names them.
    const value = this.ask(node, topic).then((reply) => reply?.token)
    // Requests made meanwhile wait for the same answer, which replaces this promise.
    this.#tokens.set(node, { value, until: now + TOKEN_LIFE })
    void value.then((token) => {
      if (token === undefined && this.#tokens.get(node)?.value === value) this.#tokens.delete(node)
    })
    return value
  }

  async #request<T>(node: DhtNode, run: (timeout: number) => Promise<T | undefined>): Promise<T | undefined> {
    this.#requests++
    const sentAt = this.#clock.now()
    const { timeout } = this.#answerTime
    const result = await run(timeout)
    const now = this.#clock.now()
    if (result !== undefined) {
      this.#answerTime.answered(sentAt, now)
      return result
    }
    this.#silent++
    this.#answerTime.silent(sentAt, now)
    if (now - sentAt < timeout + STALL) this.map.silent(node, sentAt, now)
    return undefined
  }
}

/** How long to wait for an answer, learned from those that came: as in TCP, but for all nodes together. */
export class AnswerTime {
  #mean: number | undefined
  #deviation = 0
  /** An answer that comes too late is never seen, so every one that is missed doubles the patience until one comes. */
  #patience = 1
  #grownAt = Number.NEGATIVE_INFINITY

  /** Milliseconds. */
  get timeout(): number {
    const expected = (this.#mean ?? 0) + DEVIATIONS * this.#deviation
    return Math.min(Math.max(expected, BOUNDS[0]) * this.#patience, BOUNDS[1])
  }

  /** Whether the nodes that are asked, this node, or the network between them, have more to do than they get done. */
  get isSlow(): boolean {
    // A dead node makes for one silence, then another one answers.
    return this.#patience > 2 || (this.#mean ?? 0) > SLOW
  }

  answered(sentAt: number, now: number): void {
    const took = now - sentAt
    this.#patience = 1
    if (this.#mean === undefined) {
      this.#mean = took
      this.#deviation = took / 2
      return
    }
    this.#deviation += DEVIATION_WEIGHT * (Math.abs(took - this.#mean) - this.#deviation)
    this.#mean += MEAN_WEIGHT * (took - this.#mean)
  }

  /** Requests that were sent together count once. */
  silent(sentAt: number, now: number): void {
    if (sentAt < this.#grownAt) return
    this.#grownAt = now
    this.#patience = Math.min(this.#patience * 2, BOUNDS[1] / BOUNDS[0])
  }
}
