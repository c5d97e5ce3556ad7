import type { Flight, Source, SourceState } from '../../lib/flight/flight.ts'
import type { Digest } from '../../lib/oci/digest.ts'
import { addressOf } from '../../lib/platform/address.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import type { MemoryStore } from './memory-store.ts'

/** A flight for which a test says who has content, and who is getting it. */
export class ScriptedFlight implements Flight {
  /** The sources that are found, a list for each search; nothing is found when no list is left. */
  readonly found: Source[][] = []
  /** Peers by their addresses: a peer's store, or the state that it always claims. */
  readonly peers = new Map<string, MemoryStore | SourceState | undefined>()
  /** Whether peers that are getting content get it from upstream. */
  leads = true
  /** The addresses of peers that were left, and the digests that were missed or wrong. */
  readonly leftOnes: string[] = []
  readonly wrongOnes: Digest[] = []
  readonly missedOnes: Digest[] = []
  /** The size of content for which the client is told to ask again. */
  returning: number | undefined
  /** Whether content is there after a client has waited for it to be verified. */
  verifies = false
  /** A better source for the node to follow. */
  betterOne: Source | undefined
  /** How often sources were asked for. */
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

  left(peer: Peer): boolean {
    this.leftOnes.push(addressOf(peer))
    return true
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
