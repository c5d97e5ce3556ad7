import type { Key } from '../oci/key.ts'
import { prefixOf } from './distance.ts'
import type { KnownNode } from './network-map.ts'

/** One of the announcer's queues. */
export type LaneName = 'withdrawals' | 'fresh' | 'repair' | 'refresh'

/** Where one key is announced, and where it has to be. */
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
  /** Nodes that hold it, or may: what was sent may have arrived. With each, when what it has acknowledged last was sent; 0 if nothing. */
  readonly #holders: KnownNode[] = []
  readonly #times: number[] = []
  /** Nodes with a request under way: never more than one each, so that nothing overtakes. */
  readonly #flying: KnownNode[] = []

  constructor(key: Key, topic: Uint8Array, now: number) {
    this.key = key
    this.topic = topic
    this.prefix = prefixOf(topic)
    this.since = now
  }

  get holders(): readonly KnownNode[] {
    return this.#holders
  }

  get isFlying(): boolean {
    return this.#flying.length > 0
  }

  /** Whether any node has acknowledged it since it was due. */
  get isHeld(): boolean {
    return this.#times.some((time) => time >= this.since)
  }

  /** Of those that have to hold it, those to which it must be sent. */
  missing(targets: readonly KnownNode[]): KnownNode[] {
    return targets.filter((node) => !this.#flying.includes(node) && this.#timeOf(node) < this.since)
  }

  /** Those from which it must be taken back. */
  remaining(): KnownNode[] {
    return this.#holders.filter((node) => !this.#flying.includes(node))
  }

  sent(node: KnownNode, kind: 'store' | 'remove'): void {
    this.#flying.push(node)
    if (kind === 'remove' || this.#holders.includes(node)) return
    this.#holders.push(node)
    this.#times.push(0)
  }

  landed(node: KnownNode): void {
    const at = this.#flying.indexOf(node)
    if (at >= 0) this.#flying.splice(at, 1)
  }

  stored(node: KnownNode, sentAt: number): void {
    const at = this.#holders.indexOf(node)
    if (at >= 0) this.#times[at] = sentAt
  }

  /** The node does not hold it any more. */
  dropped(node: KnownNode): boolean {
    const at = this.#holders.indexOf(node)
    if (at < 0) return false
    this.#holders.splice(at, 1)
    this.#times.splice(at, 1)
    return true
  }

  /** Forgets who has nothing newer than that: there it has expired. */
  expire(before: number): void {
    for (const node of this.remaining()) {
      if (this.#timeOf(node) < before) this.dropped(node)
    }
  }

  #timeOf(node: KnownNode): number {
    const at = this.#holders.indexOf(node)
    return at < 0 ? Number.NEGATIVE_INFINITY : (this.#times[at] ?? 0)
  }
}
