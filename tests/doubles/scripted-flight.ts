import type { Flight, Source, SourceState } from '../../lib/flight/flight.ts'
import type { Digest } from '../../lib/oci/digest.ts'
import { addressOf } from '../../lib/platform/address.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import type { MemoryStore } from './memory-store.ts'

/** A flight in which a test says who has content, and who is getting it. */
export class ScriptedFlight implements Flight {
  /** What is found, one list for each time that it is asked for; nothing when there are no more. */
  readonly found: Source[][] = []
  /** What is known of peers by their addresses: their stores, or what they say whatever they have. */
  readonly peers = new Map<string, MemoryStore | SourceState | undefined>()
  /** Whether those that are getting content get it from upstream. */
  leads = true
  /** Addresses of those that were left, what was missed, and what was wrong. */
  readonly leftOnes: string[] = []
  readonly wrongOnes: Digest[] = []
  readonly missedOnes: Digest[] = []
  /** The size of content for which a client is to come again. */
  returning: number | undefined
  /** Whether content is there by the time that a client has waited for what is verified. */
  verifies = false
  /** Whom a node had better follow. */
  betterOne: Source | undefined
  /** How often the way to content was asked for. */
  asked = 0

  async *sources(): AsyncIterable<Source> {
    this.asked++
    yield* this.found.shift() ?? []
  }

  async *holders(): AsyncIterable<Peer> {
    yield* (this.found.shift() ?? []).filter(({ isArriving }) => isArriving !== true)
  }

  async state(peer: Peer, digest: Digest): Promise<SourceState | undefined> {
    const known = this.peers.get(addressOf(peer))
    if (known === undefined || 'kind' in known) return known
    if ((await known.describe(digest, new AbortController().signal)) !== undefined) return { kind: 'held' }
    const arrival = known.arriving(digest)
    arrival?.close()
    return arrival === undefined
      ? { kind: 'gone' }
      : { kind: 'arriving', written: arrival.written, size: arrival.size, leads: this.leads }
  }

  left(peer: Peer): void {
    this.leftOnes.push(addressOf(peer))
  }

  hasLeft(peer: Peer): boolean {
    return this.leftOnes.includes(addressOf(peer))
  }

  better(): Source | undefined {
    const better = this.betterOne
    this.betterOne = undefined
    return better
  }

  wrong(digest: Digest): void {
    this.wrongOnes.push(digest)
  }

  async verified(): Promise<boolean> {
    return this.verifies
  }

  missed(digest: Digest, mayReturn: boolean): number | undefined {
    this.missedOnes.push(digest)
    return mayReturn ? this.returning : undefined
  }
}
