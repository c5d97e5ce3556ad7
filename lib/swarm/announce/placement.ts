import type { Key } from '../../oci/key.ts'
import type { KnownNode } from '../dht/network-map.ts'
import { prefixOf } from '../node.ts'

/** Why a placement waits, the most urgent first: see schedule.ts. */
export const LANES = ['withdrawals', 'fresh', 'repair', 'refresh'] as const
export type Lane = (typeof LANES)[number]

/** When the last store that a node acknowledged was sent; 0 if it has acknowledged none. */
type Time = number

const NONE: readonly KnownNode[] = []

/** The nodes on which one key is announced. A mirror has thousands of placements, so each is small: see #copies. */
export class Placement {
  readonly key: Key
  readonly topic: Uint8Array
  readonly prefix: number
  wanted = true
  /** Copies that were stored before this time must be stored again. */
  since: number
  /** The lane of the schedule in which this placement waits. */
  lane: Lane | undefined
  /** The distance of the farthest node that must hold a copy, as far as it is known. Nodes beyond it do not matter. */
  reach = 0xff_ff_ff_ff
  /** Each node that holds a copy, or may hold one because a request may have arrived, followed by its time. */
  readonly #copies: (KnownNode | Time)[] = []
  /** Nodes with a request under way. Each has at most one, so that none overtakes another. */
  #flying = NONE
  /** Nodes without room for this key. Others hold it in their place. */
  #full = NONE

  constructor(key: Key, topic: Uint8Array, now: number) {
    this.key = key
    // A digest of node:crypto has its own buffer, which takes more memory than 32 bytes.
    this.topic = Uint8Array.from(topic)
    this.prefix = prefixOf(topic)
    this.since = now
  }

  get holders(): KnownNode[] {
    return this.#copies.filter((_, at) => at % 2 === 0) as KnownNode[]
  }

  get isFlying(): boolean {
    return this.#flying.length > 0
  }

  /** Whether any node has acknowledged the key since it was due. */
  get isHeld(): boolean {
    return this.#copies.some((time, at) => at % 2 === 1 && (time as Time) >= this.since)
  }

  /** How many nodes have no room for the key. */
  get refusals(): number {
    return this.#full.length
  }

  /** Those of the nodes that must hold the key to which it still has to be sent. */
  missing(targets: readonly KnownNode[]): KnownNode[] {
    return targets.filter(
      (node) => !this.#flying.includes(node) && !this.#full.includes(node) && this.#timeOf(node) < this.since,
    )
  }

  /** The nodes from which the key still has to be removed once it is withdrawn. */
  remaining(): KnownNode[] {
    return this.holders.filter((node) => !this.#flying.includes(node))
  }

  sent(node: KnownNode, kind: 'store' | 'remove'): void {
    this.#flying = [...this.#flying, node]
    if (kind === 'store' && !this.#copies.includes(node)) this.#copies.push(node, 0)
  }

  landed(node: KnownNode): void {
    this.#flying = this.#flying.length === 1 ? NONE : this.#flying.filter((other) => other !== node)
  }

  stored(node: KnownNode, sentAt: Time): void {
    const at = this.#copies.indexOf(node)
    if (at >= 0) this.#copies[at + 1] = sentAt
  }

  /** Call this if the node has lost its copy. @returns whether it had one, and no request to it is under way */
  forgotten(node: KnownNode): boolean {
    if (this.#timeOf(node) <= 0 || this.#flying.includes(node)) return false
    this.stored(node, 0)
    return true
  }

  /** Call this if the node no longer holds a copy or is gone. @returns whether it had one */
  dropped(node: KnownNode): boolean {
    const at = this.#copies.indexOf(node)
    if (at < 0) return false
    this.#copies.splice(at, 2)
    return true
  }

  /** Call this if the node has no room for a copy. */
  refusedBy(node: KnownNode): void {
    this.dropped(node)
    this.#full = [...this.#full, node]
  }

  /** Call this when it is time to announce the key again. Nodes that had no room may have some by now. */
  renew(now: number): void {
    this.since = now
    this.#full = NONE
  }

  /** Drops copies that are older than `before`, because they have expired on their nodes. */
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
