import type { Digest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Known, Peer } from '../swarm/router.ts'
import type { Source } from './flight.ts'
import { type Ask, MOST_HOLDERS, type News, type Placing } from './message.ts'

/** Milliseconds for which a node counts as getting a digest without saying so again. It does each {@link RENEWAL}. */
export const LEASE = 10_000
/** Milliseconds from one word of a node that is getting a digest to the next. */
export const RENEWAL = 3_000
/** Milliseconds for which others are sent to a node without a byte that has not said again that it goes upstream. */
export const FRESH = RENEWAL + 1_000
/**
 * Milliseconds for which a node that is told to have a digest is named. By then lookups find what it has announced, and it
 * may have removed what it had.
 */
const HOLDER_LIFE = 60_000

/**
 * Milliseconds in which two nodes must fail to get a first byte from upstream, so that it counts as refused: one of them may
 * have been stopped by a person. And for how many nobody waits for anybody then: those who are asking at this moment.
 */
const REFUSAL_LIFE = 5_000
/** Milliseconds after wrong bytes for which nobody is sent to follow anybody until a node has what is verified. */
const WRONG_LIFE = 30_000

/** A node that has so many others above it or more is moved to where it has half as many, if there is room. */
const DEEP = 4
/**
 * If more than so many are getting a digest, each may be followed by two: to share what it can send costs less time than a
 * line of so many.
 */
const LONGEST_CHAIN = 200
export const PAIR = 2

/** Digests of which a keeper knows something at most: the oldest goes first. Some 300 images of a dozen layers. */
const MOST_DIGESTS = 4_096
/** Nodes that are known to be getting, or to have, one digest. */
const MOST_NODES = 2_048
/** The same of all digests, some 200 bytes each. */
const MOST_ENTRIES = 32_768

/** A node that is getting a digest, or is about to, or has said that it has it. */
interface Entry {
  readonly peer: Peer
  readonly holds: boolean
  /** Address of the node that it is getting it from; nothing if it goes upstream. */
  parent: string | undefined
  /** Whether others may get it from there. */
  gives: boolean
  heardAt: number
  hasBegun: boolean
  /** How many can follow it. */
  room: number
  /** Whether a child of it has turned away from it since it was last heard of. */
  wasLeft: boolean
}

/** Where a node is that is getting it, as another one sees it. */
interface Place {
  readonly address: string
  readonly entry: Entry
  /** How many nodes are above it, and which of them is the first. */
  depth: number
  root: string
  /** Whether it is that other node, or gets it from there by any way. */
  isBelow: boolean
  /** How many follow it. */
  taken: number
}

type Places = ReadonlyMap<string, Place>

interface Content {
  /** By address. Of those that have it, the one that was named last is at the end. */
  readonly entries: Map<string, Entry>
  /** Who was the last to get no byte of it from upstream. */
  refused?: { readonly by: string; readonly at: number } | undefined
  /** Until when nobody is sent to follow anybody, since upstream refuses it. */
  aloneUntil?: number | undefined
  /** Until when nobody follows a node that nobody who has it is above, since bytes were wrong. */
  doubtedUntil?: number
}

/**
 * What one node knows, in memory, of the digests that it keeps for all: who is getting them, from whom, and who has them by
 * now. It says who goes upstream and whom the others follow: whoever has room and the least above it. Most nodes have
 * room for one, so that they form a line.
 */
export class Keeper {
  readonly #clock: Pick<Clock, 'now'>
  /** The one that was heard of last at the end. */
  readonly #contents = new Map<Digest, Content>()
  #entries = 0

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  /** How many nodes are getting something, as far as it knows; some of them may have ended. */
  get size(): number {
    const all = [...this.#contents.values()].flatMap(({ entries }) => [...entries.values()])
    return all.filter(({ holds }) => !holds).length
  }

  /** @param known who has announced it */
  ask({ digest, gives: canGive, leads, resumes, not }: Omit<Ask, 'kind'>, from: Peer, known: Known): Placing {
    const now = this.#clock.now()
    const content = this.#content(digest)
    const { entries } = content
    const own = addressOf(from)
    const tried = new Set(not.map(addressOf))
    for (const address of tried) {
      const left = entries.get(address)
      if (left !== undefined) left.wasLeft = true
    }
    const told = [...entries.values()].filter(({ holds }) => holds)
    // Those who have announced it come in random order, the others in turns.
    const all = new Map([...known.peers, ...told.map(({ peer }) => peer)].map((peer) => [addressOf(peer), peer]))
    for (const address of [own, ...tried]) all.delete(address)
    const holders = [...all.values()].slice(0, MOST_HOLDERS)
    for (const holder of told) if (holders.includes(holder.peer)) nameLast(entries, holder)
    const isAlone = isAfter(content.aloneUntil, now)
    const isDoubted = isAfter(content.doubtedUntil, now)
    // What it has got before may be wrong.
    const gives = canGive && !(isDoubted && resumes)
    const isUnverified = isDoubted && holders.length === 0
    const places = placesOf(content, own)
    const parent = isAlone || isUnverified ? undefined : this.#parentFor(own, places, tried)?.entry.peer
    const mustWait = isUnverified && !isAlone && !resumes && this.#isLedAnew(own, places)
    const giver = parent ?? holders[0]
    const crowd = places.size - Number(places.has(own))
    // Others could not follow whoever does not give, or does not get it.
    if ((gives && leads && !mustWait) || giver !== undefined) {
      const entry = this.#enter(content, from, { parent: giver && addressOf(giver), gives })
      if (!resumes) entry.gives = gives
    } else this.#remove(content, own)
    const held = Math.max(holders.length, known.count)
    const isRefused = isRecent(content.refused, now)
    return {
      ...{ kind: 'place', holders, held, crowd, isWhole: known.isWhole },
      ...{ ...(parent && { parent }), ...(isRefused && { isRefused }), ...(mustWait && { mustWait }) },
    }
  }

  /** @returns those who are to be told that they wait in vain */
  tell(news: News, from: Peer): Peer[] {
    const content = this.#content(news.digest)
    const own = addressOf(from)
    const now = this.#clock.now()
    if (news.kind === 'arriving') {
      const { parent, written, room } = news
      // Told before that, and late: it would have asked.
      if (content.entries.get(own)?.holds === true) return []
      // It may have been told whom to follow a moment ago, and not have done so yet.
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
    if (news.kind === 'gone' && news.why === 'wrong') this.#doubt(content, own, now)
    const isSuspect = isAfter(content.doubtedUntil, now) && content.entries.get(own)?.gives === false
    this.#remove(content, own)
    if (news.kind === 'gone') return news.why === 'refused' ? this.#refuse(content, own, now) : []
    if (!isSuspect) this.#enter(content, from, { parent: undefined, gives: true, holds: true })
    return []
  }

  /**
   * From whom a node had better get it that follows another one: from those that have it, once they are more than those that
   * are getting it; or from somebody with less than half as many above.
   */
  better(digest: Digest, from: Peer): Source | undefined {
    const own = addressOf(from)
    const { entries } = this.#content(digest)
    const places = placesOf({ entries }, own)
    const place = places.get(own)
    if (place?.entry.parent === undefined) return undefined
    const holders = [...entries.values()].filter(({ holds }) => holds)
    const [holder] = holders
    if (holder !== undefined && holders.length > places.size) {
      nameLast(entries, holder)
      return holder.peer
    }
    if (place.depth < DEEP) return undefined
    const best = this.#bestOf(places, own, new Set())
    if (best === undefined || !best.entry.hasBegun || (best.depth + 1) * 2 > place.depth) return undefined
    place.entry.parent = best.address
    return { ...best.entry.peer, isArriving: true }
  }

  /** Upstream has given no byte to that node. If it is not the first one, nobody waits for another any more. */
  #refuse(content: Content, own: string, now: number): Peer[] {
    const { refused, aloneUntil } = content
    content.refused = { by: own, at: now }
    if (refused?.by === own || !isRecent(refused, now)) return []
    content.aloneUntil = now + REFUSAL_LIFE
    // They are told once.
    if (isAfter(aloneUntil, now)) return []
    return [...content.entries.values()].filter(({ holds, hasBegun }) => !holds && !hasBegun).map(({ peer }) => peer)
  }

  /**
   * A node has got wrong bytes. So may those who have theirs from the same node as it, also those who say that they have it all:
   * containerd does not read again what it has written.
   */
  #doubt(content: Content, own: string, now: number): void {
    content.doubtedUntil = now + WRONG_LIFE
    for (const [address, { holds }] of content.entries) if (holds) this.#remove(content, address)
    const places = placesOf(content, own)
    const root = places.get(own)?.root
    for (const place of places.values()) if (place.root === root) place.entry.gives = false
  }

  /** Whether another node gets it that others may follow, and follows nobody, and that one does not do so as well. */
  #isLedAnew(own: string, places: Places): boolean {
    const leads = (place: Place | undefined) => place?.entry.gives === true && place.depth === 0 && this.#isFresh(place)
    return !leads(places.get(own)) && [...places.values()].some(leads)
  }

  /** Who that node is to get it from; `undefined` if it is to go upstream. */
  #parentFor(own: string, places: Places, tried: ReadonlySet<string>): Place | undefined {
    const { parent, heardAt } = places.get(own)?.entry ?? { heardAt: 0 }
    // It has been told to go upstream, and asks once more: by several requests at once, or since that has failed.
    if (places.has(own) && parent === undefined && this.#clock.now() - heardAt < FRESH) return undefined
    // Who asks once more stays where it is: it may be following already, and others it.
    const kept = parent === undefined || tried.has(parent) ? undefined : places.get(parent)
    return kept !== undefined && !kept.isBelow ? kept : this.#bestOf(places, own, tried)
  }

  /** Where a node had best get it: of those with room, that with the least above it, one that was left only if there is no other. */
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

  /** Whether it has begun to get it, or may be about to. */
  #isFresh({ entry: { hasBegun, parent, heardAt } }: Place): boolean {
    return hasBegun || parent !== undefined || this.#clock.now() - heardAt < FRESH
  }

  /** What is known of a digest, without what is out of date. */
  #content(digest: Digest): Content {
    const content = this.#contents.get(digest) ?? { entries: new Map() }
    this.#contents.delete(digest)
    this.#contents.set(digest, content)
    const now = this.#clock.now()
    for (const [address, { heardAt, holds }] of content.entries)
      if (now - heardAt > (holds ? HOLDER_LIFE : LEASE)) this.#remove(content, address)
    for (const [oldest, { entries }] of this.#contents) {
      if (this.#contents.size <= MOST_DIGESTS && this.#entries <= MOST_ENTRIES) break
      this.#contents.delete(oldest)
      this.#entries -= entries.size
    }
    return content
  }

  #enter(
    content: Content,
    peer: Peer,
    { holds = false, ...more }: Pick<Entry, 'parent' | 'gives'> & Partial<Pick<Entry, 'holds'>>,
  ): Entry {
    const heardAt = this.#clock.now()
    const address = addressOf(peer)
    const known = content.entries.get(address)
    if (known?.holds === false) return Object.assign(known, { parent: more.parent, heardAt })
    this.#remove(content, address)
    const entry = { peer, holds, ...more, heardAt, hasBegun: false, room: 1, wasLeft: false }
    // What is dropped for want of room counts no more.
    if (content.entries.size >= MOST_NODES) return entry
    content.entries.set(address, entry)
    this.#entries++
    return entry
  }

  #remove(content: Content, address: string): void {
    if (content.entries.delete(address)) this.#entries--
  }
}

/** Where each node is that is getting it. Keepers see to it that there is no circle, but nodes may tell one. */
function placesOf({ entries }: Pick<Content, 'entries'>, own: string): Places {
  const places = new Map<string, Place>()
  const find = (address: string): Place | undefined => {
    const entry = entries.get(address)
    const known = places.get(address)
    if (known !== undefined || entry === undefined || entry.holds) return known
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

/** The next one that asks is told of others. */
function nameLast(entries: Content['entries'], holder: Entry): void {
  entries.delete(addressOf(holder.peer))
  entries.set(addressOf(holder.peer), holder)
}

function isAfter(time: number | undefined, now: number): boolean {
  return time !== undefined && time > now
}

function isRecent(refused: Content['refused'], now: number): boolean {
  return refused !== undefined && now - refused.at < REFUSAL_LIFE
}
