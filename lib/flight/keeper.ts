import type { Digest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Known, Peer } from '../swarm/router.ts'
import type { Source } from './flight.ts'
import { type Ask, MOST_HOLDERS, type News, type Placing } from './message.ts'

/** Milliseconds after its last word in which a node still counts as getting a digest. It speaks every {@link RENEWAL}. */
export const LEASE = 10_000
/** Milliseconds between two messages of a node that is getting a digest. */
export const RENEWAL = 3_000
/** Milliseconds after its last word in which others are still sent to a node that has no byte yet. */
export const FRESH = RENEWAL + 1_000

/**
 * A digest counts as refused by upstream when two nodes get no byte of it within this many milliseconds: a single one may have
 * been stopped by a person. For as long after that, nobody waits for anybody else. After a node that led for it has given up,
 * nobody waits as long for that node to ask again.
 */
const REFUSAL_LIFE = 5_000
/** Milliseconds after wrong bytes in which nobody follows anybody, unless a node has verified content before. */
const WRONG_LIFE = 30_000

/** A node with this many others above it, or more, moves to a place with half as many, if there is one. */
const DEEP = 4
/** If more nodes than this are getting a digest, two may follow each: sharing a link then costs less time than so long a line. */
const LONGEST_CHAIN = 300
export const PAIR = 2

/** How many digests a keeper knows at most; it drops the oldest first. Some 300 images of a dozen layers. */
const MOST_DIGESTS = 4_096
/** How many nodes a keeper knows that are getting one digest. */
const MOST_NODES = 2_048
/** The same for all digests together, at some 200 bytes each. */
const MOST_ENTRIES = 32_768

/** A node that is getting a digest, or is about to get it. */
interface Entry {
  readonly peer: Peer
  /** Address of the node that it follows; `undefined` if it goes upstream. */
  parent: string | undefined
  /** Whether others may follow it. */
  gives: boolean
  heardAt: number
  hasBegun: boolean
  /** How many nodes can follow it. */
  room: number
  /** Whether a follower has left it since its last word. */
  wasLeft: boolean
}

/** Where a node that is getting a digest stands in the tree, as another node sees it. */
interface Place {
  readonly address: string
  readonly entry: Entry
  /** How many nodes are above it, and the address of the topmost one. */
  depth: number
  root: string
  /** Whether it is that other node, or is anywhere below it. */
  isBelow: boolean
  /** How many nodes follow it. */
  taken: number
}

type Places = ReadonlyMap<string, Place>

interface Content {
  /** By address. */
  readonly entries: Map<string, Entry>
  /** The holders to which followers were moved, until all have had their turn. */
  readonly named: Set<string>
  /** The last node that got no byte of it from upstream. */
  refused?: { readonly by: string; readonly at: number } | undefined
  /** When a node that led for it last gave up. */
  leftAt?: number
  /** Until then nobody follows anybody, because upstream refuses it. */
  aloneUntil?: number | undefined
  /** Until then, because bytes were wrong, only verified content is given. */
  doubtedUntil?: number
}

/**
 * What a node knows, in memory, of the digests that it keeps: who is getting them, and from whom. It decides who goes upstream,
 * and whom each other node follows: one with room and as few nodes as possible above it. Most nodes have room for one follower,
 * so they form a line. A node that announces a digest is done with it.
 */
export class Keeper {
  readonly #clock: Pick<Clock, 'now'>
  /** The digest that was heard of last is at the end. */
  readonly #contents = new Map<Digest, Content>()
  #entries = 0

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  /** How many nodes are getting something, as far as it knows. Some of them may be done. */
  get size(): number {
    return this.#entries
  }

  /** @param known the nodes that have announced it */
  ask({ digest, gives: canGive, leads, resumes, not }: Omit<Ask, 'kind'>, from: Peer, known: Known): Placing {
    const now = this.#clock.now()
    const content = this.#content(digest, known)
    const { entries } = content
    const own = addressOf(from)
    const tried = new Set(not.map(addressOf))
    for (const address of tried) {
      const left = entries.get(address)
      if (left !== undefined) left.wasLeft = true
    }
    const isOther = (address: string) => address !== own && !tried.has(address)
    const holders = known.peers.filter((peer) => isOther(addressOf(peer))).slice(0, MOST_HOLDERS)
    const isAlone = isAfter(content.aloneUntil, now)
    const isDoubted = isAfter(content.doubtedUntil, now)
    // Its earlier bytes may be the wrong ones.
    const gives = canGive && !(isDoubted && resumes)
    const isUnverified = isDoubted && holders.length === 0
    const places = placesOf(content, own)
    const parent = isAlone || isUnverified ? undefined : this.#parentFor(own, places, tried)?.entry.peer
    const mustWait = isUnverified && !isAlone && !resumes && this.#isLedAnew(own, places)
    const giver = parent ?? holders[0]
    const crowd = places.size - Number(places.has(own))
    // Nobody could follow a node that does not give, or does not get it.
    if ((gives && leads && !mustWait) || giver !== undefined) {
      const entry = this.#enter(content, from, { parent: giver && addressOf(giver), gives })
      if (!resumes) entry.gives = gives
    } else this.#remove(content, own)
    const isRefused = isRecent(content.refused?.at, now) || isRecent(content.leftAt, now)
    return {
      ...{ kind: 'place', holders, held: known.peers.length, crowd, isWhole: known.isWhole },
      ...{ ...(parent && { parent }), ...(isRefused && { isRefused }), ...(mustWait && { mustWait }) },
    }
  }

  /**
   * @param known as for {@link ask}
   * @returns the nodes that must hear that they wait in vain
   */
  tell(news: News, from: Peer, known: Known): Peer[] {
    const content = this.#content(news.digest, known)
    const own = addressOf(from)
    const now = this.#clock.now()
    if (news.kind === 'arriving') {
      const { parent, written, room } = news
      // A late message from before it was complete: a node that gets it anew asks first.
      if (known.peers.some(({ host, port }) => host === from.host && port === from.port)) return []
      // It may have been sent to a parent a moment ago, and not follow it yet.
      const above = parent === undefined ? content.entries.get(own)?.parent : addressOf(parent)
      const entry = this.#enter(content, from, { parent: above, gives: !isAfter(content.doubtedUntil, now) })
      entry.wasLeft = false
      entry.room = room
      entry.hasBegun ||= written > 0
      if (entry.hasBegun) {
        content.refused = undefined
        content.aloneUntil = undefined
      }
      return []
    }
    if (news.why === 'wrong') this.#doubt(content, own, now)
    const entry = content.entries.get(own)
    if (entry !== undefined && entry.parent === undefined) content.leftAt = now
    this.#remove(content, own)
    return news.why === 'refused' ? this.#refuse(content, own, now) : []
  }

  /**
   * A better source for a node that follows another one: a holder, once there are more holders than nodes that are getting it; or
   * a node with less than half as many others above it.
   */
  better(digest: Digest, from: Peer, known: Known): Source | undefined {
    const own = addressOf(from)
    const { entries, named } = this.#content(digest, known)
    const places = placesOf({ entries }, own)
    const place = places.get(own)
    if (place?.entry.parent === undefined) return undefined
    if (known.peers.length > places.size) {
      if (known.peers.every((peer) => named.has(addressOf(peer)))) named.clear()
      const holder = known.peers.find((peer) => !named.has(addressOf(peer)))
      if (holder !== undefined) named.add(addressOf(holder))
      return holder
    }
    if (place.depth < DEEP) return undefined
    const best = this.#bestOf(places, own, new Set())
    if (best === undefined || !best.entry.hasBegun || (best.depth + 1) * 2 > place.depth) return undefined
    place.entry.parent = best.address
    return { ...best.entry.peer, isArriving: true }
  }

  /** Upstream gave that node no byte. If another node has just said the same, nobody waits any longer. */
  #refuse(content: Content, own: string, now: number): Peer[] {
    const { refused, aloneUntil } = content
    content.refused = { by: own, at: now }
    if (refused?.by === own || !isRecent(refused?.at, now)) return []
    content.aloneUntil = now + REFUSAL_LIFE
    // They were told already.
    if (isAfter(aloneUntil, now)) return []
    return [...content.entries.values()].filter(({ hasBegun }) => !hasBegun).map(({ peer }) => peer)
  }

  /** A node got wrong bytes. Every node below the same leader may have them as well. */
  #doubt(content: Content, own: string, now: number): void {
    content.doubtedUntil = now + WRONG_LIFE
    const places = placesOf(content, own)
    const root = places.get(own)?.root
    for (const place of places.values()) if (place.root === root) place.entry.gives = false
  }

  /** Whether another node leads for it, and this one does not. */
  #isLedAnew(own: string, places: Places): boolean {
    const leads = (place: Place | undefined) => place?.entry.gives === true && place.depth === 0 && this.#isFresh(place)
    return !leads(places.get(own)) && [...places.values()].some(leads)
  }

  /** The node that it is to follow; `undefined` if it is to go upstream. */
  #parentFor(own: string, places: Places, tried: ReadonlySet<string>): Place | undefined {
    const { parent, heardAt } = places.get(own)?.entry ?? { heardAt: 0 }
    // It was sent upstream and asks again: with several requests at once, or because upstream failed.
    if (places.has(own) && parent === undefined && this.#clock.now() - heardAt < FRESH) return undefined
    // A node that asks again keeps its place: it may follow already, and have followers.
    const kept = parent === undefined || tried.has(parent) ? undefined : places.get(parent)
    return kept !== undefined && !kept.isBelow ? kept : this.#bestOf(places, own, tried)
  }

  /** The node with room and the fewest others above it. One that a follower has left counts only if there is no other. */
  #bestOf(places: Places, own: string, tried: ReadonlySet<string>): Place | undefined {
    for (const { address, entry } of places.values()) {
      const above =
        entry.parent === undefined || address === own || entry.wasLeft ? undefined : places.get(entry.parent)
      if (above !== undefined) above.taken++
    }
    const least = places.size > LONGEST_CHAIN ? PAIR : 1
    let best: Place | undefined
    for (const place of places.values()) {
      const { address, entry, depth, isBelow, taken } = place
      if (!entry.gives || isBelow || tried.has(address) || !this.#isFresh(place)) continue
      if (taken >= Math.max(entry.room, least)) continue
      const isWorse = best !== undefined && (entry.wasLeft === best.entry.wasLeft ? depth >= best.depth : entry.wasLeft)
      if (!isWorse) best = place
    }
    return best
  }

  /** Whether it has begun, or may be about to begin. */
  #isFresh({ entry: { hasBegun, parent, heardAt } }: Place): boolean {
    return hasBegun || parent !== undefined || this.#clock.now() - heardAt < FRESH
  }

  /** What is known of a digest and still true. */
  #content(digest: Digest, { peers }: Known): Content {
    const content = this.#contents.get(digest) ?? { entries: new Map(), named: new Set() }
    this.#contents.delete(digest)
    this.#contents.set(digest, content)
    const now = this.#clock.now()
    for (const peer of peers) this.#remove(content, addressOf(peer))
    for (const [address, { heardAt }] of content.entries) if (now - heardAt > LEASE) this.#remove(content, address)
    for (const [oldest, { entries }] of this.#contents) {
      if (this.#contents.size <= MOST_DIGESTS && this.#entries <= MOST_ENTRIES) break
      this.#contents.delete(oldest)
      this.#entries -= entries.size
    }
    return content
  }

  #enter(content: Content, peer: Peer, { parent, gives }: Pick<Entry, 'parent' | 'gives'>): Entry {
    const heardAt = this.#clock.now()
    const address = addressOf(peer)
    const known = content.entries.get(address)
    if (known !== undefined) return Object.assign(known, { parent, heardAt })
    const entry = { peer, parent, gives, heardAt, hasBegun: false, room: 1, wasLeft: false }
    // Without room, it is not remembered.
    if (content.entries.size >= MOST_NODES) return entry
    content.entries.set(address, entry)
    this.#entries++
    return entry
  }

  #remove(content: Content, address: string): void {
    if (content.entries.delete(address)) this.#entries--
  }
}

/** The place of each node that is getting it. A keeper never makes a circle, but nodes may claim one. */
function placesOf({ entries }: Pick<Content, 'entries'>, own: string): Places {
  const places = new Map<string, Place>()
  const find = (address: string): Place | undefined => {
    const entry = entries.get(address)
    const known = places.get(address)
    if (known !== undefined || entry === undefined) return known
    const { parent } = entry
    const place = { address, entry, depth: 0, root: address, isBelow: address === own || parent === own, taken: 0 }
    places.set(address, place)
    const above = parent === undefined ? undefined : find(parent)
    if (above !== undefined) {
      place.depth = above.depth + 1
      place.root = above.root
      place.isBelow ||= above.isBelow
    }
    return place
  }
  for (const address of entries.keys()) find(address)
  return places
}

function isAfter(time: number | undefined, now: number): boolean {
  return time !== undefined && time > now
}

function isRecent(at: number | undefined, now: number): boolean {
  return at !== undefined && now - at < REFUSAL_LIFE
}
