import b4a from 'b4a'

/** A set of nodes in the order of their ids. It finds the nodes closest to a target without looking at the others. */
export class IdTree<N extends { readonly id: Uint8Array }> {
  readonly #nodes: N[] = []

  get size(): number {
    return this.#nodes.length
  }

  /** @returns whether the node is new */
  add(node: N): boolean {
    const at = this.#placeOf(node.id)
    const there = this.#nodes[at]
    if (there !== undefined && b4a.equals(there.id, node.id)) return false
    this.#nodes.splice(at, 0, node)
    return true
  }

  delete(node: N): boolean {
    const at = this.#placeOf(node.id)
    if (this.#nodes[at] !== node) return false
    this.#nodes.splice(at, 1)
    return true
  }

  /** The `count` nodes closest to the target in Kademlia's metric, the closest first. */
  closest(target: Uint8Array, count: number): N[] {
    const found: N[] = []
    this.#collect(target, count, 0, this.#nodes.length, 0, found)
    return found
  }

  [Symbol.iterator](): Iterator<N> {
    return this.#nodes.values()
  }

  /**
   * Adds nodes of a range whose ids share their first `bit` bits. The half that shares the next bit with the target comes
   * first.
   */
  #collect(target: Uint8Array, count: number, from: number, to: number, bit: number, found: N[]): void {
    if (from >= to || found.length >= count) return
    if (to - from === 1) {
      found.push(this.#nodes[from] as N)
      return
    }
    const middle = firstWhere(from, to, (at) => bitOf((this.#nodes[at] as N).id, bit) === 1)
    if (bitOf(target, bit) === 0) {
      this.#collect(target, count, from, middle, bit + 1, found)
      this.#collect(target, count, middle, to, bit + 1, found)
    } else {
      this.#collect(target, count, middle, to, bit + 1, found)
      this.#collect(target, count, from, middle, bit + 1, found)
    }
  }

  #placeOf(id: Uint8Array): number {
    return firstWhere(0, this.#nodes.length, (at) => b4a.compare((this.#nodes[at] as N).id, id) >= 0)
  }
}

function bitOf(id: Uint8Array, bit: number): number {
  return ((id[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1
}

/** The first place of a range at which the condition holds, as it does for all later ones; `to` if it never does. */
export function firstWhere(from: number, to: number, holds: (at: number) => boolean): number {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >> 1
    if (holds(middle)) high = middle
    else low = middle + 1
  }
  return low
}
