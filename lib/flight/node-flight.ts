import type { Logger } from '../observe/log.ts'
import { type Digest, isDigest } from '../oci/digest.ts'
import type { Key } from '../oci/key.ts'
import type { ContentTarget } from '../oci/path.ts'
import { bounded, OVER, onAbort, orAborted, until } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { Clock } from '../platform/clock.ts'
import type { Answerer } from '../swarm/members.ts'
import type { Peer, Router } from '../swarm/router.ts'
import type { Download } from './download.ts'
import { createDownloads, type DownloadsDependencies } from './downloads.ts'
import type { Flight, Source, SourceState } from './flight.ts'
import { ImageLeaders, imageOf } from './image-leaders.ts'
import { PAIR } from './keeper.ts'
import { ASK_TIME, askMember, createKeepers, isSame, type KeepersDependencies, nameOf } from './keepers.ts'
import { encode, MOST_NAMED, type Placing, readQuestion } from './message.ts'
import type { FlightFigures, FlightMetrics } from './metrics.ts'

export interface FlightDependencies
  extends Pick<DownloadsDependencies, 'store' | 'holds' | 'clock'>,
    Pick<KeepersDependencies, 'members' | 'self'> {
  readonly router: Pick<Router, 'lookup' | 'known'>
  /** For the time in which another node must answer. */
  readonly patientClock: Clock
  readonly log: Logger
  readonly metrics: FlightMetrics
}

export interface FlightOptions extends Pick<DownloadsDependencies, 'gives'> {
  /** Milliseconds for which a lookup may look for holders. */
  readonly lookupTimeout: number
}

/** Milliseconds to wait for a keeper before a lookup starts beside it. */
const KEEPER_HASTE = 30
/** Milliseconds to wait for the first files of containerd that this node ever sees. containerd makes them before it asks. */
const ARRIVAL_PATIENCE = 50
/**
 * How often a peer is asked again that will know in a moment, and the milliseconds between: its containerd is making its files, or
 * is entering complete content in its database.
 */
const SOON_LOOKS = 6
const SOON_INTERVAL = 50
/** How often containerd is told to ask again for a layer that it has no byte of: it gives up after three times without progress. */
const MOST_RETURNS = 2
/**
 * How often a keeper is asked for a leader that is about to ask as well, and the milliseconds between; and how often where
 * containerd can be told to ask again, because containerd 2 has other layers to ask for.
 */
const LEADER_LOOKS = 20
const LEADER_INTERVAL = 100
const FEW_LEADER_LOOKS = 2
/**
 * Milliseconds for which containerd may wait for the turn of a leader: a little less than the 15 s for which this node waits for
 * the head of that leader's answer, and then takes the leader for dead.
 */
const TURN_PATIENCE = 14_000
/** The same for verified content, and milliseconds between two questions whether there is any. containerd 2.3 waits 30 s for a head. */
const VERIFIED_PATIENCE = 20_000
const VERIFIED_INTERVAL = 300
/** Milliseconds for which a peer that has not answered counts as dead, unless it answers: a pull has many layers. */
const SILENT_LIFE = 5_000
/** Milliseconds without an answer in which the leader of an image may only be busy. */
const LONGEST_BUSY = 2_000
/** Milliseconds to give {@link Flight.sources} beyond those for a lookup. */
export const CLAIM_TIME = ARRIVAL_PATIENCE + ASK_TIME + LEADER_LOOKS * LEADER_INTERVAL

/** The flight of a node that takes part in flights. */
export type NodeFlight = ReturnType<typeof createNodeFlight>

/**
 * This node's part in flights: it asks the keepers who has something, then follows the node that they name, or leads. It tells
 * them what arrives here, answers its own followers, and is a keeper for others.
 */
export function createNodeFlight(
  { members, router, store, holds, self, clock, patientClock, log, metrics }: FlightDependencies,
  { lookupTimeout, gives: mayGive }: FlightOptions,
) {
  const closing = new AbortController()
  /** By address, peers that have not answered, since when, and until when keepers are asked not to name them for anything. */
  const silent = new BoundedMap<{ readonly peer: Peer; readonly since: number; readonly until: number }>(MOST_NAMED)
  const leaders = new ImageLeaders(clock)
  const keepers = createKeepers({
    ...{ members, router, self, clock: patientClock, closing: closing.signal },
    onReleased: release,
  })
  const downloads = createDownloads({
    ...{ store, holds, clock, gives: mayGive },
    onProgress: tellProgress,
    onEnd: tellEnd,
  })

  /** What a lookup finds in its time. */
  async function* lookUp(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    const stop = new AbortController()
    using _ = onAbort(signal, () => stop.abort(OVER))
    const cancel = patientClock.after(lookupTimeout, () => stop.abort(OVER))
    try {
      yield* router.lookup(key, stop.signal)
    } finally {
      cancel()
    }
  }

  /** Whether it must leave upstream to another node, which leads for its image. A download with bytes waits for nobody. */
  function isLed({ image, hasBegun }: Download): boolean {
    return !hasBegun && leaders.isAnother(image)
  }

  /** Waits a moment for the leader of the image, if it has not asked yet. If it does not come, this node may lead. */
  async function led(
    download: Download,
    placing: Placing | undefined,
    signal: AbortSignal,
  ): Promise<Placing | undefined> {
    let found = placing
    for (let looks = 1; found !== undefined && nameOf(found) === 'lead' && !signal.aborted; looks++) {
      if (!isLed(download)) break
      const isRefused = found.isRefused === true
      if (looks > FEW_LEADER_LOOKS && download.returns < MOST_RETURNS && !isRefused) {
        download.parentLateSince = clock.now()
        break
      }
      if (looks > LEADER_LOOKS || isRefused) leaders.forget(download.image)
      else await until(clock, clock.now() + LEADER_INTERVAL, signal).catch(() => undefined)
      found = await claim(download, signal)
    }
    return found
  }

  /** Asks the keepers who holds it, or whom to follow. */
  async function claim(download: Download, signal: AbortSignal): Promise<Placing | undefined> {
    const { digest, found } = download
    if (downloads.areSeen === undefined) await within(clock, ARRIVAL_PATIENCE, found.promise)
    const gives = downloads.areSeen ?? false
    const leads = !isLed(download)
    const now = clock.now()
    const dead = [...silent.values()].flatMap(({ peer, until }) => (until > now ? peer : []))
    const not = [...dead, ...download.left].slice(-MOST_NAMED)
    const question = { kind: 'ask', digest, gives, leads, resumes: download.hasBegun, not } as const
    const placing = await keepers.ask(question, signal)
    download.isClaimed ||= placing !== undefined && gives && (leads || nameOf(placing) !== 'lead')
    if (signal.aborted) return undefined
    download.mustWait = placing?.mustWait === true
    metrics.claims.inc({ answer: placing === undefined ? 'silent' : nameOf(placing) })
    return placing
  }

  function tellProgress(download: Download): void {
    const { digest, isClaimed, arrival, way } = download
    if (!isClaimed) return
    const parent = way.kind === 'peers' ? way.parent : undefined
    const { room } = downloads
    const news = { kind: 'arriving', digest, written: arrival?.written ?? 0, ...(parent && { parent }), room } as const
    void keepers.tell(news).then((better) => {
      // Better than its parent of that time.
      if (download.way === way) download.better = better
    })
  }

  function tellEnd(download: Download, end: 'committed' | 'aborted'): void {
    const { digest, isClaimed, way, arrival, since } = download
    if (!isClaimed) return
    // What it holds it announces, to the same nodes.
    const why = end === 'aborted' ? downloads.whyAborted(download) : undefined
    if (end === 'aborted') void keepers.tell({ kind: 'gone', digest, ...(why && { why }) })
    if (arrival === undefined) return
    const role = way.kind === 'upstream' ? 'leader' : 'follower'
    const outcome = end === 'committed' ? 'complete' : 'aborted'
    metrics.flights.inc({ role, outcome })
    const parent = way.kind === 'peers' && way.parent !== undefined ? addressOf(way.parent) : undefined
    const ms = Math.round(clock.now() - since)
    log.info('flight', { key: digest, role, outcome, parent, bytes: arrival.written, ms })
  }

  /** Leaves the parent of a download at the next look at it. */
  function release(digest: Digest): void {
    const download = downloads.get(digest)
    if (download === undefined || download.hasBegun) return
    download.isReleased = true
    leaders.forget(download.image)
  }

  /** Notes that a peer has not answered. */
  function missedAnswer(peer: Peer): void {
    const now = clock.now()
    const { since = now, until = now } = silent.get(addressOf(peer)) ?? {}
    silent.set(addressOf(peer), { peer, since: until > now ? since : now, until: now + SILENT_LIFE })
  }

  /** Whether a peer that has not answered may only be busy, as a node that leads for an image may be. */
  function mayBeBusy(peer: Peer, download: Download): boolean {
    const { since } = silent.get(addressOf(peer)) ?? {}
    return isLed(download) && (since === undefined || clock.now() - since < LONGEST_BUSY)
  }

  function hasLeft(peer: Peer, digest: Digest): boolean {
    return downloads.get(digest)?.left.some((other) => isSame(other, peer)) === true
  }

  return {
    /** How many nodes may follow this one. A keeper may send two where very many wait. */
    get room(): number {
      return Math.max(downloads.room, PAIR)
    },

    get figures(): FlightFigures {
      return { kept: keepers.kept, arriving: downloads.arriving }
    },

    async *sources(key: Key, signal: AbortSignal, target?: ContentTarget): AsyncIterable<Source> {
      if (!isDigest(key)) return yield* router.lookup(key, signal)
      const stop = AbortSignal.any([signal, closing.signal])
      const download = downloads.begin(key)
      if (target?.kind === 'blob') download.image = imageOf(target)
      download.isReleased = false
      if (download.way.kind === 'again') {
        download.way = { kind: 'peers' }
        download.parentLateSince = undefined
      }
      const claimed = claim(download, stop)
      if (target?.kind === 'manifest') {
        void claimed.then((placing) => placing && leaders.note(imageOf(target), nameOf(placing) === 'lead'))
      }
      const soon = await within(clock, KEEPER_HASTE, claimed)
      // Manifests are given whole or not at all.
      const mayFollow = target?.kind !== 'manifest'
      // Each holder and each node that is getting it gives to one other: more would share its link.
      const isCrowded = mayFollow && soon?.parent !== undefined && soon.crowd >= soon.held
      if (!isCrowded) yield* soon?.holders ?? []
      if (!isCrowded && soon?.isWhole !== true) yield* lookUp(key, stop)
      let placing = await claimed
      if (soon === undefined) yield* placing?.holders ?? []
      // The parent that this node has just left may be named again: its turn has not come.
      if (placing?.parent === undefined) download.parentLateSince = undefined
      placing = await led(download, placing, stop)
      // This comes last, for when the holders have just removed it.
      if (mayFollow && placing?.parent !== undefined && !signal.aborted) {
        metrics.crowds.observe({}, placing.crowd)
        const parent = download.follow(placing.parent, placing.crowd)
        // Only one keeper was asked, and the other one could name this node to a node above it.
        tellProgress(download)
        yield parent
      }
    },

    holders: (key: Key, signal: AbortSignal): AsyncIterable<Peer> => router.lookup(key, signal),

    async state(peer: Peer, digest: Digest, signal: AbortSignal): Promise<SourceState | undefined> {
      for (let looks = 1; ; looks++) {
        const answer = await askMember(members, peer, { kind: 'state', digest }, signal)
        const isLate = !signal.aborted || (signal.reason as Error).name === 'TimeoutError'
        if (answer !== undefined) silent.delete(addressOf(peer))
        else if (isLate) missedAnswer(peer)
        const download = downloads.get(digest)
        if (download?.isReleased === true) return { kind: 'gone' }
        if (download !== undefined) {
          const isParentLate = answer === undefined ? mayBeBusy(peer, download) : answer.kind === 'later'
          if (isParentLate) download.parentLateSince ??= clock.now()
          else if (answer !== undefined) download.parentLateSince = undefined
          download.doesParentLead = answer?.kind === 'arriving' && answer.leads
          if (downloads.isSlow(download)) {
            download.isChallenger = true
            return { kind: 'gone' }
          }
          const { parentLateSince, arrival, returns } = download
          const isPatient = isParentLate && returns === MOST_RETURNS && isLed(download)
          const isWaiting = isPatient && parentLateSince !== undefined && clock.now() - parentLateSince < TURN_PATIENCE
          if (isWaiting && arrival?.size !== undefined) return { kind: 'waiting', size: arrival.size }
        }
        if (answer === undefined || answer.kind === 'place' || answer.kind === 'told') return undefined
        if (answer.kind !== 'soon') return answer
        if (signal.aborted) return undefined
        if (looks === SOON_LOOKS) return { kind: 'gone' }
        await until(clock, clock.now() + SOON_INTERVAL, signal).catch(() => undefined)
      }
    },

    left(peer: Peer, digest: Digest, isRefused = false): boolean {
      metrics.left.inc()
      // A download that is not seen to arrive has long been given up.
      downloads.begin(digest).leave(peer, isRefused)
      log.debug('peer given up', { key: digest, peer })
      return true
    },

    hasLeft,

    better(digest: Digest): Source | undefined {
      const download = downloads.get(digest)
      if (download?.better === undefined || download.way.kind !== 'peers') return undefined
      const { better } = download
      download.better = undefined
      if (hasLeft(better, digest)) return undefined
      metrics.moved.inc()
      if (better.isArriving === true) return download.follow(better)
      download.way = { kind: 'peers' }
      return better
    },

    wrong(digest: Digest): void {
      void keepers.tell({ kind: 'gone', digest, why: 'wrong' })
    },

    async verified(digest: Digest, signal: AbortSignal): Promise<boolean> {
      const download = downloads.get(digest)
      const latest = clock.now() + VERIFIED_PATIENCE
      if (download?.mustWait !== true) return false
      // They had nothing, or wrong bytes. The one that verifies content may be among them.
      download.forgetLeft()
      while (download.mustWait && clock.now() < latest) {
        await until(clock, clock.now() + VERIFIED_INTERVAL, signal)
        await claim(download, signal)
      }
      return !download.mustWait
    },

    missed(digest: Digest, mayReturn: boolean): number | undefined {
      const download = downloads.get(digest)
      if (download === undefined) return undefined
      const { way, arrival, hasBegun, parentLateSince, returns, image } = download
      const at = clock.now()
      const isParentLate = parentLateSince !== undefined
      const isLate = !leaders.isThisNode(image) && (isParentLate || !downloads.isNext(download, at))
      if (mayReturn && isLate && !hasBegun && returns < MOST_RETURNS && arrival?.size !== undefined) {
        download.returns++
        download.way = { kind: 'again' }
        // Nobody may wait for this node: the next one that asks may have a place, or hear of a new holder.
        if (download.isClaimed) void keepers.tell({ kind: 'gone', digest })
        download.isClaimed = false
        return arrival.size
      }
      // A node that goes upstream must wait for nobody, because others may wait for it. If it goes there for the rest of a layer,
      // the leader of the image is lost or slow, and may never ask for the other layers.
      if (leaders.isAnother(image)) leaders.forget(image)
      download.way = { kind: 'upstream', at }
      if (way.kind === 'peers' && hasBegun) tellProgress(download)
      return undefined
    },

    /** Answers another member. */
    answerTo(message: Uint8Array, from: Peer): Uint8Array | undefined {
      const question = readQuestion(message)
      if (question === undefined) return undefined
      const isState = question.kind === 'state'
      return encode(isState ? downloads.stateOf(question.digest, from) : keepers.reply(question, from))
    },

    /** Ends everything that waits. Others learn the next time they ask that nothing arrives here any longer. */
    close(): void {
      closing.abort(new Error('closed'))
      downloads.close()
    },
  } satisfies Flight & { readonly room: number; readonly figures: FlightFigures; answerTo: Answerer; close(): void }
}

/** What a promise gives within so many milliseconds; `undefined` if it takes longer. */
async function within<T>(clock: Clock, ms: number, promise: Promise<T>): Promise<T | undefined> {
  return await bounded(ms, undefined, (late) => orAborted(promise, late), clock)
}
