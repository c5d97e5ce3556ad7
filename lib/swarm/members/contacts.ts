import { type Clock, systemClock } from '../../platform/clock.ts'
import type { StoreOutcome, SwarmTable, TableNode, TableReply } from '../dht/table.ts'
import type { NodeAddress } from './bootstrap.ts'
import type { KnownNode, NetworkMap } from './network-map.ts'
import { RoundTrip } from './round-trip.ts'

export interface ContactsDependencies {
  readonly table: SwarmTable
  readonly map: NetworkMap
  readonly clock?: Clock
}

export interface ContactsOptions {
  /** Milliseconds for which a token is used. */
  readonly tokenLife?: number
  /** Milliseconds by which the end of waiting may come late: beyond that, this process stood still, and nobody is to blame. */
  readonly stall?: number
}

/** Nodes change their secret every 7.5 s and still take tokens of the one before. */
export const TOKEN_LIFE = 7_000
/** The answers may be there and unread. */
const STALL = 250

interface Token {
  readonly value: Promise<Uint8Array | undefined>
  readonly until: number
}

/** Talks to single nodes of the DHT: what they answer, or do not, goes into the map; their tokens are kept. */
export class Contacts {
  readonly map: NetworkMap
  readonly #table: SwarmTable
  readonly #clock: Clock
  readonly #options: Required<ContactsOptions>
  readonly #tokens = new WeakMap<KnownNode, Token>()
  readonly #roundTrip = new RoundTrip()
  #requests = 0
  #silent = 0

  constructor({ table, map, clock = systemClock }: ContactsDependencies, options: ContactsOptions = {}) {
    this.map = map
    this.#table = table
    this.#clock = clock
    this.#options = { tokenLife: options.tokenLife ?? TOKEN_LIFE, stall: options.stall ?? STALL }
  }

  /** Requests sent so far, and those of them that were not answered in time. */
  get counts(): { readonly requests: number; readonly silent: number } {
    return { requests: this.#requests, silent: this.#silent }
  }

  /** Whether answers come so slowly that nothing should be asked that can wait. */
  get isSlow(): boolean {
    return this.#roundTrip.isSlow
  }

  nodeAt({ host, port }: NodeAddress): TableNode {
    return { host, port, id: this.#table.idOf({ host, port }) }
  }

  /** What a node knows of a target; `undefined` when it does not answer in time. */
  async ask(node: TableNode, target: Uint8Array): Promise<TableReply | undefined> {
    const sentAt = this.#clock.now()
    const reply = await this.#told(
      node,
      (timeout) => this.#table.ask(node, target, timeout),
      (answer) => answer === undefined,
    )
    if (reply === undefined) return undefined
    const { token, closer } = reply
    for (const address of closer) {
      if (this.map.get(address) === undefined && !this.map.isLost(address)) this.map.heard(this.nodeAt(address))
    }
    if (token === undefined) {
      // It answers, but stores nothing: to the map it is as good as gone.
      this.map.silent(node, sentAt, this.#clock.now())
      return reply
    }
    const known = this.map.answered(node, this.#clock.now())
    if (known !== undefined) {
      const until = this.#clock.now() + this.#options.tokenLife
      this.#tokens.set(known, { value: Promise.resolve(token), until })
    }
    return reply
  }

  /** Stores this node's record of a topic at a node. */
  async store(node: KnownNode, topic: Uint8Array, relays: readonly NodeAddress[]): Promise<StoreOutcome> {
    return await this.#withToken(node, topic, (token, timeout) =>
      this.#table.store(node, topic, token, relays, timeout),
    )
  }

  /** Removes this node's record of a topic from a node. */
  async remove(node: KnownNode, topic: Uint8Array): Promise<StoreOutcome> {
    return await this.#withToken(node, topic, (token, timeout) => this.#table.remove(node, topic, token, timeout))
  }

  /** Does it once more with a new token if the first is not good any more, as when the node has been started again. */
  async #withToken(
    node: KnownNode,
    topic: Uint8Array,
    run: (token: Uint8Array, timeout: number) => Promise<StoreOutcome>,
  ): Promise<StoreOutcome> {
    for (let attempt = 0; ; attempt++) {
      const token = await this.#token(node, topic)
      if (token === undefined) return 'silent'
      const outcome = await this.#told(
        node,
        (timeout) => run(token, timeout),
        (result) => result === 'silent',
      )
      if (outcome === 'done') this.map.answered(node, this.#clock.now())
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
    // Should it know closer nodes to the topic than the map does, its answer names them.
    const value = this.ask(node, topic).then((reply) => reply?.token)
    // Whoever comes while it is under way waits for the same one; the answer replaces it.
    this.#tokens.set(node, { value, until: now + this.#options.tokenLife })
    void value.then((token) => {
      if (token === undefined && this.#tokens.get(node)?.value === value) this.#tokens.delete(node)
    })
    return value
  }

  async #told<T>(node: TableNode, run: (timeout: number) => Promise<T>, isSilent: (result: T) => boolean): Promise<T> {
    this.#requests++
    const sentAt = this.#clock.now()
    const { timeout } = this.#roundTrip
    const result = await run(timeout)
    const now = this.#clock.now()
    if (!isSilent(result)) {
      this.#roundTrip.answered(sentAt, now)
      return result
    }
    this.#silent++
    this.#roundTrip.silent(sentAt, now)
    if (now - sentAt < timeout + this.#options.stall) this.map.silent(node, sentAt, now)
    return result
  }
}
