import type { Key } from '../../lib/oci/key.ts'
import type { Peer, Router } from '../../lib/swarm/router.ts'

/** A swarm within one process, for tests: every router made by one hub finds what the others advertise, at once. */
export class MemorySwarm {
  readonly #members = new Map<MemoryRouter, Set<Key>>()

  join(self: Peer): MemoryRouter {
    const router = new MemoryRouter(this.#members, self)
    this.#members.set(router, new Set())
    return router
  }
}

/** The router of one member. */
export class MemoryRouter implements Router {
  readonly self: Peer
  readonly #members: Map<MemoryRouter, Set<Key>>

  constructor(members: Map<MemoryRouter, Set<Key>>, self: Peer) {
    this.#members = members
    this.self = self
  }

  get neighbours(): number {
    return this.#members.has(this) ? this.#members.size - 1 : 0
  }

  async *lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    for (const [router, keys] of this.#members) {
      if (signal.aborted || !this.#members.has(this)) return
      if (router !== this && keys.has(key)) yield router.self
    }
  }

  advertise(keys: Iterable<Key>): void {
    for (const key of keys) this.#members.get(this)?.add(key)
  }

  withdraw(keys: Iterable<Key>): void {
    for (const key of keys) this.#members.get(this)?.delete(key)
  }

  async settled(): Promise<void> {
    // Nothing is ever under way here.
  }

  async close(): Promise<void> {
    this.#members.delete(this)
  }
}
