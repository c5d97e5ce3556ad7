import b4a from 'b4a'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { NodeAddress } from '../node.ts'
import type { KnownNode, NetworkMap } from './network-map.ts'
import type { DhtNode, DhtReply, DhtRpc, Refused, Topics } from './rpc.ts'

/** Milliseconds for which a token is used. Nodes change their secret every 7.5 s and still accept tokens of the last one. */
export const TOKEN_LIFE = 7_000
/**
 * Milliseconds by which a timeout may be late. If it is later, this process stood still and may not have read answers that are
 * there, so nobody is to blame.
 */
const STALL = 250
/** How many deviations above the mean an answer may come, as in RFC 6298. */
const DEVIATIONS = 4
/** The least and the most milliseconds to wait for an answer. hyperdht itself always waits for one second. */
const BOUNDS = [1_000, 4_000] as const
/** Milliseconds that an answer takes within a cluster only if a node is overloaded. */
export const SLOW = 400

interface Token {
  readonly value: Promise<Uint8Array | undefined>
  readonly until: number
}

/** Asks single nodes of the DHT. It tells the map about answers and silence, and keeps tokens. */
export type DhtClient = ReturnType<typeof createDhtClient>

export function createDhtClient(rpc: DhtRpc, map: NetworkMap, clock: Clock = systemClock) {
  const tokens = new WeakMap<KnownNode, Token>()
  const answerTime = new AnswerTime()
  let requests = 0
  let silent = 0

  /** What a node knows about a target; `undefined` if it does not answer in time. */
  async function ask(node: DhtNode, target: Uint8Array): Promise<DhtReply | undefined> {
    const sentAt = clock.now()
    const reply = await request(node, (timeout) => rpc.ask(node, target, timeout))
    if (reply === undefined) return undefined
    const { token, closer, run } = reply
    for (const address of closer) {
      if (map.get(address) === undefined && !map.isLost(address)) map.named(rpc.nodeAt(address))
    }
    if (token === undefined) {
      // The node answers but stores nothing, so for the map it is as good as gone.
      map.silent(node, sentAt, clock.now())
      return reply
    }
    const known = map.answered(node, clock.now())
    if (known !== undefined) {
      tokens.set(known, { value: Promise.resolve(token), until: clock.now() + TOKEN_LIFE })
      map.ran(known, run, clock.now())
    }
    return reply
  }

  /**
   * Stores this node's records of some topics at a node, or removes them. Tries again with a new token if the first one is no
   * longer good, for example because the node was restarted.
   *
   * @returns the indexes of the topics for which it has no room; `undefined` if it does not answer in time, or takes no token
   */
  async function change(kind: 'store' | 'remove', node: KnownNode, topics: Topics): Promise<Refused | undefined> {
    const [topic] = topics
    for (let attempt = 0; ; attempt++) {
      const token = topic && (await tokenOf(node, topic))
      if (token === undefined) return undefined
      const outcome = await request(node, (timeout) => rpc[kind](node, topics, token, timeout))
      if (outcome === undefined) return undefined
      if (outcome !== 'refused') {
        map.answered(node, clock.now())
        return outcome
      }
      tokens.delete(node)
      if (attempt === 0) continue
      map.lose(node, clock.now())
      return undefined
    }
  }

  function tokenOf(node: KnownNode, topic: Uint8Array): Promise<Uint8Array | undefined> {
    const now = clock.now()
    const kept = tokens.get(node)
    if (kept !== undefined && kept.until > now) return kept.value
    // If the node knows nodes closer to the topic than the map does, its answer names them.
    const value = ask(node, topic).then((reply) => reply?.token)
    // Requests made meanwhile wait for the same token.
    tokens.set(node, { value, until: now + TOKEN_LIFE })
    void value.then((token) => {
      if (token === undefined && tokens.get(node)?.value === value) tokens.delete(node)
    })
    return value
  }

  async function request<T>(node: DhtNode, run: (timeout: number) => Promise<T | undefined>): Promise<T | undefined> {
    requests++
    const sentAt = clock.now()
    const { timeout } = answerTime
    const result = await run(timeout)
    const now = clock.now()
    if (result !== undefined) {
      answerTime.answered(sentAt, now)
      return result
    }
    silent++
    answerTime.silent(sentAt, now)
    if (now - sentAt < timeout + STALL) map.silent(node, sentAt, now)
    return undefined
  }

  return {
    map,

    /** How many requests were sent so far, and how many of them were not answered in time. */
    get figures(): { readonly requests: number; readonly silent: number } {
      return { requests, silent }
    },

    /** Whether answers are so slow that questions which can wait should wait. */
    get isSlow(): boolean {
      return answerTime.isSlow
    },

    nodeAt: rpc.nodeAt,
    ask,
    change,

    /** The public key of a node's Hyperswarm connections in hex; `undefined` if it does not answer in time. */
    async identify(address: NodeAddress): Promise<string | undefined> {
      const publicKey = await request(rpc.nodeAt(address), (timeout) => rpc.identify(address, timeout))
      return publicKey && b4a.toString(publicKey, 'hex')
    },
  }
}

/** How long to wait for an answer, learned from earlier answers as in TCP, but for all nodes together. */
export class AnswerTime {
  /**
   * Mean and deviation of answers in milliseconds, smoothed as in RFC 6298, section 2. The mean is 0 before the first answer.
   */
  #mean = 0
  #deviation = 0
  /** An answer that comes too late is never seen, so each missing one doubles the patience until one comes. */
  #patience = 1
  #grownAt = Number.NEGATIVE_INFINITY

  /** In milliseconds. */
  get timeout(): number {
    const expected = this.#mean + DEVIATIONS * this.#deviation
    return Math.min(Math.max(expected, BOUNDS[0]) * this.#patience, BOUNDS[1])
  }

  /** Whether the nodes that are asked, this node, or the network between them is overloaded. */
  get isSlow(): boolean {
    // A dead node causes one silence, and then another node answers.
    return this.#patience > 2 || this.#mean > SLOW
  }

  answered(sentAt: number, now: number): void {
    this.#patience = 1
    const time = now - sentAt
    if (this.#mean === 0) {
      this.#mean = time
      this.#deviation = time / 2
      return
    }
    this.#deviation += (Math.abs(this.#mean - time) - this.#deviation) / 4
    this.#mean += (time - this.#mean) / 8
  }

  /** Call this if no answer came. Requests that were sent together count once. */
  silent(sentAt: number, now: number): void {
    if (sentAt < this.#grownAt) return
    this.#grownAt = now
    this.#patience = Math.min(this.#patience * 2, BOUNDS[1] / BOUNDS[0])
  }
}
