/** A DHT without a network, on a clock that tests move. Its nodes answer after a while, die and come back. */
import { createHash } from 'node:crypto'
import { addressOf } from '../../lib/platform/address.ts'
import type { DhtNode, DhtReply, DhtRpc, StoreOutcome, Topics } from '../../lib/swarm/dht/rpc.ts'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import { compareDistance } from '../../lib/swarm/node.ts'
import type { ManualClock } from './manual-clock.ts'

export const LATENCY = 2
const TOKEN_ROTATION = 7_500

interface SimulatedNode extends DhtNode {
  alive: boolean
  /** Whether it has no room for more records. */
  isFull: boolean
  /** Whether it says that it has all records. */
  isWhole: boolean
  /** The node names only nodes of its own island, even dead ones. */
  island: number
  readonly run: number
  readonly records: Map<string, Map<string, NodeAddress>>
}

export interface Traffic {
  requests: number
  inFlight: number
  mostInFlight: number
  silent: number
  /** Records that nodes have stored, and removed, so far. */
  stored: number
  removed: number
}

export class SimulatedDht {
  readonly traffic: Traffic = { requests: 0, inFlight: 0, mostInFlight: 0, silent: 0, stored: 0, removed: 0 }
  /** The share of requests that get lost, from 0 to 1. */
  loss = 0
  /** Milliseconds that one request takes on the machine that all nodes share. */
  serviceTime = 0
  #busyUntil = 0
  #runs = 0
  readonly #clock: ManualClock
  readonly #random: () => number
  readonly #nodes = new Map<string, SimulatedNode>()

  constructor(clock: ManualClock, random: () => number) {
    this.#clock = clock
    this.#random = random
  }

  /** Adds a node, or restarts one without its records. */
  start(port: number, island = 0): DhtNode {
    const address = { host: '10.0.0.1', port }
    const node = {
      ...address,
      id: idOf(address),
      alive: true,
      isFull: false,
      isWhole: false,
      island,
      run: this.#runs++,
      records: new Map(),
    }
    this.#nodes.set(addressOf(address), node)
    return node
  }

  kill(port: number): void {
    const node = this.#nodes.get(`10.0.0.1:${port}`)
    if (node !== undefined) node.alive = false
  }

  /** Sets whether a node has no room for more records. */
  setFull(port: number, isFull: boolean): void {
    const node = this.#nodes.get(`10.0.0.1:${port}`)
    if (node !== undefined) node.isFull = isFull
  }

  /** Makes a node say that it has all records. */
  setWhole(port: number): void {
    const node = this.#nodes.get(`10.0.0.1:${port}`)
    if (node !== undefined) node.isWhole = true
  }

  /** Puts all nodes on one island. */
  unite(): void {
    for (const node of this.#nodes.values()) node.island = 0
  }

  get alive(): readonly DhtNode[] {
    return [...this.#nodes.values()].filter((node) => node.alive)
  }

  closest(topic: Uint8Array, count: number): readonly DhtNode[] {
    return [...this.alive].sort((a, b) => compareDistance(topic, a.id, b.id)).slice(0, count)
  }

  /** The ports of the living nodes that hold the announcement of a topic by the node at `port`. */
  holders(topic: Uint8Array, port: number): number[] {
    const owner = `10.0.0.1:${port}`
    const nodes = [...this.#nodes.values()].filter((node) => node.alive && node.records.get(hex(topic))?.has(owner))
    return nodes.map(({ port }) => port).sort((a, b) => a - b)
  }

  /** The RPC client of the node at that address, on that island. */
  rpc({ host, port }: NodeAddress, island = 0): DhtRpc {
    const record = { host, port }
    const change =
      (run: (node: SimulatedNode, topic: string) => boolean) =>
      (to: NodeAddress, topics: Topics, token: Uint8Array, timeout: number) =>
        this.#request<StoreOutcome>(to, island, timeout, (node) => {
          const now = this.#clock.now()
          if (![now, now - TOKEN_ROTATION].some((at) => hex(token) === hex(tokenOf(node, at)))) return 'refused'
          return [...topics.keys()].filter((index) => !run(node, hex(topics[index] as Uint8Array)))
        })
    return {
      nodeAt: ({ host, port }) => ({ host, port, id: idOf({ host, port }) }),
      ask: (to, target, timeout) =>
        this.#request<DhtReply>(to, island, timeout, (node) => ({
          token: tokenOf(node, this.#clock.now()),
          run: node.run,
          closer: this.#named(node, target),
          records: [...(node.records.get(hex(target))?.values() ?? [])],
          isFull: node.isFull,
          isWhole: node.isWhole,
        })),
      store: change(({ records, isFull }, topic) => {
        const stored = records.get(topic) ?? new Map()
        if (isFull && !stored.has(addressOf(record))) return false
        records.set(topic, stored.set(addressOf(record), record))
        this.traffic.stored++
        return true
      }),
      identify: (to, timeout) => this.#request(to, island, timeout, ({ id }) => id),
      question: async () => undefined,
      remove: change(({ records }, topic) => {
        records.get(topic)?.delete(addressOf(record))
        this.traffic.removed++
        return true
      }),
    }
  }

  #named({ island }: SimulatedNode, target: Uint8Array): NodeAddress[] {
    const named = [...this.#nodes.values()].filter((node) => node.island === island)
    named.sort((a, b) => compareDistance(target, a.id, b.id))
    return named.slice(0, 20).map(({ host, port }) => ({ host, port }))
  }

  async #request<T>(
    to: NodeAddress,
    island: number,
    timeout: number,
    answer: (node: SimulatedNode) => T,
  ): Promise<T | undefined> {
    this.traffic.requests++
    this.traffic.inFlight++
    this.traffic.mostInFlight = Math.max(this.traffic.mostInFlight, this.traffic.inFlight)
    try {
      await this.#pass(LATENCY / 2)
      const node = this.#nodes.get(addressOf(to))
      const isReached = node?.alive === true && node.island === island && this.#random() >= this.loss
      if (!isReached) {
        await this.#pass(timeout - LATENCY / 2)
        this.traffic.silent++
        return undefined
      }
      // A busy node reads a request late, still does what it says, and answers when nobody waits any more.
      const now = this.#clock.now()
      this.#busyUntil = Math.max(this.#busyUntil, now) + this.serviceTime
      const late = this.#busyUntil - now
      const answering = late === 0 ? Promise.resolve(answer(node)) : this.#pass(late).then(() => answer(node))
      const isLate = LATENCY + late > timeout
      await (isLate ? this.#pass(timeout - LATENCY / 2) : answering.then(() => this.#pass(LATENCY / 2)))
      if (isLate) this.traffic.silent++
      return isLate ? undefined : await answering
    } finally {
      this.traffic.inFlight--
    }
  }

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.after(ms, resolve)
    })
  }
}

export function idOf({ host, port }: NodeAddress): Uint8Array {
  return createHash('sha256').update(`${host}:${port}`).digest()
}

/** A generator of numbers from 0 to 1, the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function tokenOf(node: NodeAddress, now: number): Uint8Array {
  return new TextEncoder().encode(`${addressOf(node)} ${Math.floor(now / TOKEN_ROTATION)}`)
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
