import type { Key } from '../../oci/key.ts'
import { prefixOf } from '../members/distance.ts'
import type { KnownNode } from '../members/network-map.ts'

/** One of the announcer's queues. */
export type LaneName = 'withdrawals' | 'express' | 'fresh' | 'repair' | 'refresh'

/** A node that holds the record, or may: what was sent may have arrived. */
type Holder = KnownNode
/** When what it has acknowledged last was sent; 0 if nothing. */
type Time = number

const NONE: readonly KnownNode[] = []

/** Where one key is announced, and where it has to be. There are thousands of them, so each is kept small: see #copies. */
export class Placement {
  readonly key: Key
  readonly topic: Uint8Array
  readonly prefix: number
  wanted = true
  /** What was stored earlier than that has to be stored again. */
  since: number
  /** The queue in which it waits. */
  lane: LaneName | undefined
  /** Distance (see distance.ts) of the farthest node that has to hold it, as far as is known: who joins beyond does not matter. */
  reach = 0xff_ff_ff_ff
  /** Holders, each followed by its time. */
  readonly #copies: (Holder | Time)[] = []
  /** Nodes with a request under way: never more than one each, so that nothing overtakes. */
  #flying = NONE

  constructor(key: Key, topic: Uint8Array, now: number) {
    this.key = key
    // A digest as it comes has a buffer of its own beside it, which takes more memory than its 32 bytes.
    this.topic = Uint8Array.from(topic)
    this.prefix = prefixOf(topic)
    this.since = now
  }

  get holders(): readonly KnownNode[] {
    return this.#copies.filter((_, at) => at % 2 === 0) as Holder[]
  }

  get isFlying(): boolean {
    return this.#flying.length > 0
  }

  /** Whether any node has acknowledged it since it was due. */
  get isHeld(): boolean {
    return this.#copies.some((time, at) => at % 2 === 1 && (time as Time) >= this.since)
  }

  /** Of those that have to hold it, those to which it must be sent. */
  missing(targets: readonly KnownNode[]): KnownNode[] {
    return targets.filter((node) => !this.#flying.includes(node) && this.#timeOf(node) < this.since)
  }

  /** Those from which it must be taken back. */
  remaining(): KnownNode[] {
    return this.holders.filter((node) => !this.#flying.includes(node))
  }

  sent(node: KnownNode, kind: 'store' | 'remove'): void {
    this.#flying = [...this.#flying, node]
    if (kind === 'remove' || this.#copies.includes(node)) return
    this.#copies.push(node, 0)
  }

  landed(node: KnownNode): void {
    const at = this.#flying.indexOf(node)
    if (at < 0) return
    this.#flying = this.#flying.length === 1 ? NONE : this.#flying.toSpliced(at, 1)
  }

  stored(node: KnownNode, sentAt: Time): void {
    const at = this.#copies.indexOf(node)
    if (at >= 0) this.#copies[at + 1] = sentAt
  }

  /** Whether the node has acknowledged it, and nothing is under way to it. */
  isAt(node: KnownNode): boolean {
    return this.#timeOf(node) > 0 && !this.#flying.includes(node)
  }

  /** The node has lost it, but may be sent it again. */
  forgotten(node: KnownNode): boolean {
    if (!this.isAt(node)) return false
    this.stored(node, 0)
    return true
  }

  /** The node does not hold it any more. */
  dropped(node: KnownNode): boolean {
    const at = this.#copies.indexOf(node)
    if (at < 0) return false
    this.#copies.splice(at, 2)
    return true
  }

  /** Forgets who has nothing newer than that: there it has expired. */
  expire(before: Time): void {
    for (const node of this.remaining()) {
      if (this.#timeOf(node) < before) this.dropped(node)
    }
  }

  #timeOf(node: KnownNode): Time {
    const at = this.#copies.indexOf(node)
    return at < 0 ? Number.NEGATIVE_INFINITY : (this.#copies[at + 1] as Time)
  }
}
