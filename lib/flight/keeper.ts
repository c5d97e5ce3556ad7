import type { Digest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { Clock } from '../platform/clock.ts'
import type { Known, Peer } from '../swarm/router.ts'
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
/** Nodes that are getting something in all, some 200 bytes each. */
const MOST_ENTRIES = 32_768

/** A node that is getting a digest, or is about to. */
interface Entry {
  readonly peer: Peer
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

/** A node that others may follow, as one of them sees it. */
interface Place {
  readonly address: string
  readonly entry: Entry
  /** How many nodes are above it. */
  readonly depth: number
  /** Whether it is that other node, or gets it from there by any way. */
  readonly isBelow: boolean
  /** How many follow it. */
  taken: number
}

interface Content {
  /** By address. */
  readonly entries: Map<string, Entry>
  /** When they said that they have it; the one that was named last at the end. */
  readonly holders: BoundedMap<{ readonly peer: Peer; readonly at: number }>
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
    return this.#entries
  }

  /** @param known who has announced it */
  ask({ digest, gives: canGive, leads, resumes, not }: Omit<Ask, 'kind'>, from: Peer, known: Known): Placing {
    const now = this.#clock.now()
    const content = this.#content(digest)
    const own = addressOf(from)
    const tried = new Set(not.map(addressOf))
    for (const address of tried) {
      const left = content.entries.get(address)
      if (left !== undefined) left.wasLeft = true
    }
    const told = [...content.holders.values()]
    // Those who have announced it come in random order, the others in turns.
    const all = new Map([...known.peers, ...told.map(({ peer }) => peer)].map((peer) => [addressOf(peer), peer]))
    for (const address of [own, ...tried]) all.delete(address)
    const holders = [...all.values()].slice(0, MOST_HOLDERS)
    for (const holder of told) if (holders.includes(holder.peer)) content.holders.set(addressOf(holder.peer), holder)
    const isAlone = isAfter(content.aloneUntil, now)
    const isDoubted = isAfter(content.doubtedUntil, now)
    // What it has got before may be wrong.
    const gives = canGive && !(isDoubted && resumes)
    const isUnverified = isDoubted && holders.length === 0
    const parent = isAlone || isUnverified ? undefined : this.#parentFor(own, content, tried)?.peer
    const mustWait = isUnverified && !isAlone && !resumes && this.#isLedAnew(own, content)
    const giver = parent ?? holders[0]
    const crowd = content.entries.size - Number(content.entries.has(own))
    // Others could not follow whoever does not give, or does not get it.
    if ((gives && leads && !mustWait) || giver !== undefined) {
      const entry = this.#enter(digest, content, from, { parent: giver && addressOf(giver), gives })
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
      // It may have been told whom to follow a moment ago, and not have done so yet.
      const above = parent === undefined ? content.entries.get(own)?.parent : addressOf(parent)
      const gives = !isAfter(content.doubtedUntil, now)
      const entry = this.#enter(news.digest, content, from, { parent: above, gives })
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
    content.holders.delete(own)
    if (news.kind === 'gone') return news.why === 'refused' ? this.#refuse(content, own, now) : []
    if (!isSuspect) content.holders.set(own, { peer: from, at: now })
    return []
  }

  /** Whom a node had better follow that gets it from another one: somebody with less than half as many above. */
  better(digest: Digest, from: Peer): Peer | undefined {
    const content = this.#content(digest)
    const own = addressOf(from)
    const entry = content.entries.get(own)
    if (entry?.parent === undefined || !content.entries.has(entry.parent)) return undefined
    const depth = depthOf(entry, content)
    if (depth < DEEP) return undefined
    const best = this.#placeFor(own, content, new Set())
    if (best === undefined || !best.entry.hasBegun || (best.depth + 1) * 2 > depth) return undefined
    entry.parent = addressOf(best.entry.peer)
    return best.entry.peer
  }

  /** Upstream has given no byte to that node. If it is not the first one, nobody waits for another any more. */
  #refuse(content: Content, own: string, now: number): Peer[] {
    const { refused, aloneUntil } = content
    content.refused = { by: own, at: now }
    if (refused?.by === own || !isRecent(refused, now)) return []
    content.aloneUntil = now + REFUSAL_LIFE
    // They are told once.
    if (isAfter(aloneUntil, now)) return []
    return [...content.entries.values()].filter(({ hasBegun }) => !hasBegun).map(({ peer }) => peer)
  }

  /**
   * A node has got wrong bytes. So may those who have theirs from the same node as it, also those who say that they have it all:
   * containerd does not read again what it has written.
   */
  #doubt(content: Content, own: string, now: number): void {
    content.doubtedUntil = now + WRONG_LIFE
    for (const address of content.holders.keys()) content.holders.delete(address)
    const entry = content.entries.get(own)
    const root = entry && rootOf(entry, content)
    for (const one of content.entries.values()) if (rootOf(one, content) === root) one.gives = false
  }

  /** Whether another node gets it that others may follow, and follows nobody, and that one does not do so as well. */
  #isLedAnew(own: string, { entries }: Content): boolean {
    const now = this.#clock.now()
    const leads = (entry: Entry) =>
      entry.gives && above(entry, entries) === undefined && (entry.hasBegun || now - entry.heardAt < FRESH)
    const present = entries.get(own)
    return !(present !== undefined && leads(present)) && [...entries.values()].some(leads)
  }

  /** Who that node is to get it from; `undefined` if it is to go upstream. */
  #parentFor(own: string, content: Content, tried: ReadonlySet<string>): Entry | undefined {
    const now = this.#clock.now()
    const { entries } = content
    const present = entries.get(own)
    // It has been told to go upstream, and asks once more: by several requests at once, or since that has failed.
    if (present !== undefined && present.parent === undefined && now - present.heardAt < FRESH) return undefined
    // Who asks once more stays where it is: it may be following already, and others it.
    const kept = present?.parent === undefined || tried.has(present.parent) ? undefined : entries.get(present.parent)
    if (kept !== undefined && !isBelow(kept, own, content)) return kept
    return this.#placeFor(own, content, tried)?.entry
  }

  /** Whom a node had best follow, and how many are above that one. */
  #placeFor(own: string, content: Content, tried: ReadonlySet<string>): Place | undefined {
    const now = this.#clock.now()
    const places = new Map<string, Place>()
    for (const [address, entry] of content.entries) place(address, entry, own, content, places)
    for (const [address, { parent, wasLeft }] of content.entries) {
      const above = parent === undefined || address === own || wasLeft ? undefined : places.get(parent)
      if (above !== undefined) above.taken++
    }
    const givers = [...places.values()].filter(
      ({ address, isBelow, entry: { gives, hasBegun, parent, heardAt } }) =>
        gives && !isBelow && !tried.has(address) && (hasBegun || parent !== undefined || now - heardAt < FRESH),
    )
    const least = content.entries.size > LONGEST_CHAIN ? PAIR : 1
    return bestOf(givers.filter(({ entry, taken }) => taken < Math.max(entry.room, least)))
  }

  /** What is known of a digest, without what is out of date. */
  #content(digest: Digest): Content {
    const content = this.#contents.get(digest) ?? { entries: new Map(), holders: new BoundedMap(MOST_NODES) }
    this.#contents.delete(digest)
    this.#contents.set(digest, content)
    const now = this.#clock.now()
    for (const [address, { heardAt }] of content.entries) if (now - heardAt > LEASE) this.#remove(content, address)
    for (const [address, { at }] of content.holders.entries())
      if (now - at > HOLDER_LIFE) content.holders.delete(address)
    while (this.#contents.size > MOST_DIGESTS || this.#entries > MOST_ENTRIES) {
      const [oldest, of] = this.#contents.entries().next().value ?? []
      if (oldest === undefined || of === undefined) break
      this.#contents.delete(oldest)
      this.#entries -= of.entries.size
    }
    return content
  }

  #enter(digest: Digest, content: Content, peer: Peer, { parent, gives }: Pick<Entry, 'parent' | 'gives'>): Entry {
    const now = this.#clock.now()
    const address = addressOf(peer)
    const known = content.entries.get(address)
    if (known !== undefined) {
      known.parent = parent
      known.heardAt = now
      return known
    }
    const entry = { peer, parent, gives, heardAt: now, hasBegun: false, room: 1, wasLeft: false }
    // What is dropped for want of room counts no more.
    if (this.#contents.get(digest) !== content || content.entries.size >= MOST_NODES) return entry
    content.entries.set(address, entry)
    this.#entries++
    return entry
  }

  #remove(content: Content, address: string): void {
    if (content.entries.delete(address)) this.#entries--
  }
}

/** Finds the place of a node, and those of all above it. Keepers see to it that there is no circle, but nodes may tell one. */
function place(address: string, entry: Entry, own: string, { entries }: Content, places: Map<string, Place>): void {
  const line = new Map<string, Entry>()
  let at: string | undefined = address
  for (let one: Entry | undefined = entry; one !== undefined && at !== undefined; ) {
    if (places.has(at) || line.has(at)) break
    line.set(at, one)
    at = one.parent
    one = at === undefined ? undefined : entries.get(at)
  }
  let above = at === undefined ? undefined : places.get(at)
  const isInCircle = at !== undefined && line.has(at) && line.has(own)
  for (const [address, entry] of [...line].reverse()) {
    const isBelow = address === own || entry.parent === own || above?.isBelow === true || isInCircle
    above = { address, entry, depth: above === undefined ? 0 : above.depth + 1, isBelow, taken: 0 }
    places.set(address, above)
  }
}

/** That with the least above it, one that was left only if there is no other. */
function bestOf(places: readonly Place[]): Place | undefined {
  const welcome = places.filter(({ entry }) => !entry.wasLeft)
  return (welcome.length > 0 ? welcome : places).reduce<Place | undefined>(
    (best, one) => (best === undefined || one.depth < best.depth ? one : best),
    undefined,
  )
}

/** How many nodes are above that one. */
function depthOf(entry: Entry, { entries }: Content): number {
  let depth = 0
  for (let at = above(entry, entries); at !== undefined && depth <= entries.size; at = above(at, entries)) depth++
  return depth
}

/** Whether an entry is that node's own, or gets it from there by any way. */
function isBelow(entry: Entry, address: string, { entries }: Content): boolean {
  let at: Entry | undefined = entry
  for (let steps = 0; at !== undefined && steps <= entries.size; steps++) {
    if (addressOf(at.peer) === address || at.parent === address) return true
    at = above(at, entries)
  }
  return false
}

/** The first one above an entry, or the entry itself. */
function rootOf(entry: Entry, { entries }: Content): Entry {
  let root = entry
  for (let steps = 0; steps <= entries.size; steps++) root = above(root, entries) ?? root
  return root
}

function above({ parent }: Entry, entries: Content['entries']): Entry | undefined {
  return parent === undefined ? undefined : entries.get(parent)
}

function isAfter(time: number | undefined, now: number): boolean {
  return time !== undefined && time > now
}

function isRecent(refused: Content['refused'], now: number): boolean {
  return refused !== undefined && now - refused.at < REFUSAL_LIFE
}
