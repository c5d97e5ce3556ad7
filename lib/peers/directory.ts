import { addressOf, type Peer } from '../swarm/router.ts'
import { BoundedMap } from './bounded-map.ts'
import { PeerRecord, type Probation } from './record.ts'

/**
 * The records of peers' doors, by their addresses, and what Hyperswarm tells of the nodes behind them, by their ids. A node
 * that was started again has another id at the same address, and is found under its former one for a while; where a member
 * is, only a lookup tells, so that Hyperswarm's word may come before its door is known.
 */
export class PeerDirectory {
  readonly #probation: Probation
  /** By address. */
  readonly #records: BoundedMap<PeerRecord>
  /** The addresses of ids. */
  readonly #addresses: BoundedMap<string>
  /** The ids whose Hyperswarm connections stand. */
  readonly #connected: BoundedMap<true>
  /** Until when nodes are put aside because their connection ended, by id. */
  readonly #gone: BoundedMap<number>

  /** @param capacity how many peers are remembered; the longest unused go first */
  constructor(probation: Probation, capacity: number) {
    this.#probation = probation
    this.#records = new BoundedMap(capacity)
    this.#addresses = new BoundedMap(capacity)
    this.#connected = new BoundedMap(capacity)
    this.#gone = new BoundedMap(capacity)
  }

  /** All records. */
  records(): Iterable<PeerRecord> {
    return this.#records.values()
  }

  /** Every door with its record, and the id of the node there as far as it is known. */
  *doors(): Iterable<{ readonly address: string; readonly id: string | undefined; readonly record: PeerRecord }> {
    const ids = new Map<string, string>()
    for (const [id, address] of this.#addresses.entries()) ids.set(address, id)
    for (const [address, record] of this.#records.entries()) {
      yield { address, id: record.member ?? ids.get(address), record }
    }
  }

  /** The ids whose Hyperswarm connections stand. */
  *connected(): Iterable<string> {
    for (const [id] of this.#connected.entries()) yield id
  }

  isConnected({ id }: { readonly id: string }): boolean {
    return this.#connected.get(id) === true
  }

  /** Until when it is put aside because its connection ended; `undefined` if it did not, or is over. */
  goneUntil({ id }: Peer): number | undefined {
    return this.#gone.get(id)
  }

  /** Forgets that its connection ended: it was heard of since. */
  isThere({ id }: Peer): void {
    this.#gone.delete(id)
  }

  /**
   * What is known of its door. A member whose connection stands does not answer for the node that was in its place before:
   * it may have been seen before anybody knew where it is.
   */
  find(peer: Peer, now: number): PeerRecord | undefined {
    const record = this.#records.get(addressOf(peer))
    if (record !== undefined && record.member !== peer.id && this.isConnected(peer)) {
      this.#addresses.set(peer.id, addressOf(peer))
      record.revive(peer.id, now)
    }
    return record
  }

  /** The record of its door, which is made if there is none. */
  of(peer: Peer, now: number): PeerRecord {
    const record = this.find(peer, now) ?? new PeerRecord()
    if (this.isConnected(peer)) record.member = peer.id
    this.#records.set(addressOf(peer), record)
    this.#addresses.set(peer.id, addressOf(peer))
    return record
  }

  /** Its Hyperswarm connection stands: it has just opened, or this is said of it again. */
  seen(peerId: string, now: number): void {
    const isNew = this.#connected.get(peerId) === undefined
    this.#gone.delete(peerId)
    this.#connected.set(peerId, true)
    const record = this.#recordOf(peerId)
    if (isNew || record?.member !== peerId) record?.revive(peerId, now)
    else record.stands(now)
  }

  /** Its Hyperswarm connection ended. A node that has started again in its place is not meant. */
  gone(peerId: string, now: number): void {
    this.#gone.set(peerId, now + this.#probation.first)
    this.#connected.delete(peerId)
    const record = this.#recordOf(peerId)
    if (record === undefined || (record.member ?? peerId) !== peerId) return
    record.member = undefined
    record.departed = peerId
    record.putAside('silent', now, this.#probation)
  }

  #recordOf(peerId: string): PeerRecord | undefined {
    return this.#records.get(this.#addresses.get(peerId) ?? '')
  }
}
