import { createHash } from 'node:crypto'
import type { Key } from '../../lib/oci/key.ts'
import { until } from '../../lib/platform/abort.ts'
import { addressOf } from '../../lib/platform/address.ts'
import { type Clock, systemClock } from '../../lib/platform/clock.ts'
import { ANSWER_TIMEOUT, type Answerer, MAX_MESSAGE, type Members } from '../../lib/swarm/members.ts'
import { compareDistance } from '../../lib/swarm/node.ts'
import type { Known, Peer, Router } from '../../lib/swarm/router.ts'

/** A swarm within one process, for tests. Every node finds at once what the others advertise, and can ask them. */
export class MemorySwarm {
  readonly #nodes = new Map<string, MemoryNode>()
  readonly #answerTimeout: number
  readonly #clock: Clock

  /** @param answerTimeout milliseconds for which a question waits for an answer */
  constructor(answerTimeout = ANSWER_TIMEOUT, clock = systemClock) {
    this.#answerTimeout = answerTimeout
    this.#clock = clock
  }

  join(self: Peer): MemoryNode {
    const node = new MemoryNode(this.#nodes, self, this.#answerTimeout, this.#clock)
    this.#nodes.set(addressOf(self), node)
    return node
  }
}

/** A node of a swarm in memory. */
export class MemoryNode implements Router, Members {
  readonly self: Peer
  readonly keys = new Set<Key>()
  /** Whether this node knows all that the others advertise, or nothing. */
  isWhole = true
  readonly #nodes: Map<string, MemoryNode>
  readonly #answerTimeout: number
  readonly #clock: Clock
  #answerer: Answerer | undefined

  constructor(nodes: Map<string, MemoryNode>, self: Peer, answerTimeout: number, clock: Clock) {
    this.#nodes = nodes
    this.#answerTimeout = answerTimeout
    this.#clock = clock
    this.self = self
  }

  get size(): number {
    return this.#nodes.size
  }

  get #isClosed(): boolean {
    return this.#nodes.get(addressOf(this.self)) !== this
  }

  async *lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    for (const node of this.#nodes.values()) {
      if (signal.aborted || this.#isClosed) return
      if (node !== this && node.keys.has(key)) yield node.self
    }
  }

  known(key: Key): Known {
    const holders = this.isWhole ? [...this.#nodes.values()].filter(({ keys }) => keys.has(key)) : []
    return { peers: holders.map(({ self }) => self), isWhole: this.isWhole }
  }

  advertise(keys: Iterable<Key>): void {
    for (const key of keys) this.keys.add(key)
  }

  withdraw(keys: Iterable<Key>): void {
    for (const key of keys) this.keys.delete(key)
  }

  async settled(): Promise<void> {
    // Advertising takes no time here.
  }

  closest(key: Key, count: number): Peer[] {
    const target = hash(key)
    const nodes = [...this.#nodes.values()].map(({ self }) => ({ self, id: hash(addressOf(self)) }))
    nodes.sort((a, b) => compareDistance(target, a.id, b.id))
    return nodes.slice(0, count).map(({ self }) => self)
  }

  async ask(peer: Peer, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined> {
    if (question.length > MAX_MESSAGE) throw new RangeError(`expected at most ${MAX_MESSAGE} bytes`)
    const asked = this.#nodes.get(addressOf(peer))
    const answer = signal.aborted || this.#isClosed ? undefined : asked?.answerTo(question, this.self)
    if (answer !== undefined) return answer
    await until(this.#clock, this.#clock.now() + this.#answerTimeout, signal).catch(() => undefined)
    return undefined
  }

  answer(answerer: Answerer): void {
    this.#answerer = answerer
  }

  answerTo(question: Uint8Array, from: Peer): Uint8Array | undefined {
    try {
      const answer = this.#answerer?.(question, from)
      return answer !== undefined && answer.length <= MAX_MESSAGE ? answer : undefined
    } catch {
      // The node that asked learns only that there is no answer.
      return undefined
    }
  }

  async close(): Promise<void> {
    if (!this.#isClosed) this.#nodes.delete(addressOf(this.self))
  }
}

function hash(text: string): Uint8Array {
  return createHash('sha256').update(text).digest()
}
