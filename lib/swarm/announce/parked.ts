import type { KnownNode } from '../members/network-map.ts'
import type { Placement } from './placement.ts'

/** What waits for nodes that did not answer last time, until they do or are lost. */
export class Parked {
  readonly #waiting = new Map<KnownNode, Set<Placement>>()

  add(node: KnownNode, placement: Placement): void {
    const waiting = this.#waiting.get(node)
    if (waiting === undefined) this.#waiting.set(node, new Set([placement]))
    else waiting.add(placement)
  }

  /** What waited for that node, which waits no more. */
  take(node: KnownNode): Iterable<Placement> {
    const waiting = this.#waiting.get(node) ?? []
    this.#waiting.delete(node)
    return waiting
  }

  clear(): void {
    this.#waiting.clear()
  }
}
