import type { Digest } from '../oci/digest.ts'
import { digestKey, type Key } from '../oci/key.ts'
import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Arrival } from '../store/arrival.ts'
import type { ContentStore } from '../store/store.ts'
import type { Peer } from '../swarm/router.ts'
import { Download } from './download.ts'
import { RENEWAL } from './keeper.ts'
import { type Answer, MOST_FOLLOWERS } from './message.ts'

export interface DownloadsDependencies {
  readonly store: Pick<ContentStore, 'arriving'>
  /** Whether this node holds it and offers it to others. */
  readonly holds: (key: Key) => boolean
  /** Whether the store ever tells of content that arrives. */
  readonly gives: boolean
  readonly clock: Clock
  /** Called {@link BEGUN_PATIENCE} after the first byte, and then every {@link RENEWAL}, as long as the last byte is not there. */
  readonly onProgress: (download: Download) => void
  readonly onEnd: (download: Download, end: 'committed' | 'aborted') => void
}

/**
 * Milliseconds between the first two looks whether something arrives, and after which it is given up. Most of what is asked for
 * never arrives, so looks become rarer: they would cost more than the answer.
 */
const LOOK_INTERVAL = 10
const LOOK_LIMIT = 1_000
/** Milliseconds for which others may wait until it arrives: containerd makes its files before it asks. */
const ARRIVAL_PATIENCE = 300
/** Milliseconds after the last byte within which the store must hold it: containerd's database comes after its files. */
const STORE_PATIENCE = 5_000
/** Milliseconds within which a running download may end and free its place. */
const TURN_PATIENCE = 150
/**
 * Milliseconds from the first byte to the message that says so. Small content is complete before that, and then its announcement is
 * enough. Until it comes, the keeper that was asked counts this node as one that is about to begin.
 */
export const BEGUN_PATIENCE = 500
/** Milliseconds to wait for the first byte from upstream: containerd writes it together with the first MiB. */
const FIRST_BYTE_PATIENCE = 3_000
/** Milliseconds after which a download without a byte is given up: its turn may come late, but not that late. */
const BEGIN_LIMIT = 600_000
/**
 * Milliseconds after which a download that has begun and does not grow is given up: whoever pulled may be dead. After Ctrl+C in
 * `ctr` or `nerdctl`, containerd keeps what has come for a day. Followers leave a node that gives less than 1 MiB in this time.
 */
const STILL_LIMIT = 60_000
/**
 * How many downloads containerd runs at a time: `max_concurrent_downloads` by default. containerd 2 goes upstream only when one of
 * these places is free, and a download from the mirror takes one as well.
 */
const PLACES = 3
/**
 * A leader is too slow for its follower if the rest would take more than `LONG` milliseconds, and upstream once gave this node
 * `SLOWER` times as much; both must have been true for `PACE_TIME` milliseconds.
 */
const LONG = 8_000
const SLOWER = 4
const PACE_TIME = 3_000
/** What any registry can be expected to give, in bytes per millisecond. */
const LEAST_PACE = 2_000
/**
 * A node has room for another follower if its link once carried `SPARE` times what all of them would get then. Only downloads from
 * a peer of at least `CARRIED_BYTES` count.
 */
const CARRIED_BYTES = 4 << 20
const SPARE = 1.5
/** After this many downloads that were not seen in the store, this node no longer waits to see the next one. */
const MOST_UNSEEN = 3
/** How many downloads are watched at a time. */
const MOST_DOWNLOADS = 1_024

/** What containerd on this node is getting, as far as the store can tell. */
export function createDownloads({ store, holds, gives, clock, onProgress, onEnd }: DownloadsDependencies) {
  const running = new Map<Digest, Download>()
  let hasSeenAny = false
  /** The fastest download from upstream so far, in bytes per millisecond. */
  let upstreamPace = LEAST_PACE
  /** The fastest download from peers so far, in bytes per millisecond: what a link can receive, it can send. */
  let carried = 0
  let unseen = 0
  /** When a place of containerd was last freed. */
  let freedAt = 0
  let isClosed = false

  /** Whether containerd has a place for a download that was sent upstream at that time. */
  function isNext(download: Download, at: number): boolean {
    const before = [...running.values()].filter(
      (other) =>
        other !== download &&
        other.arrival !== undefined &&
        !other.hasAll &&
        (other.hasBegun || other.way.kind === 'peers' || (other.way.kind === 'upstream' && other.way.at < at)),
    )
    return before.length < PLACES
  }

  /** What all downloads get at present, in bytes per millisecond. */
  function paceOfAll(): number {
    return [...running.values()].reduce((sum, { pace }) => sum + pace, 0)
  }

  /** Looks whether it arrives, and later again. */
  function look(download: Download): void {
    const { digest, since } = download
    if (isClosed) return
    const arrival = store.arriving(digest)
    if (arrival !== undefined) {
      hasSeenAny = true
      download.arrival = arrival
      download.found.resolve()
      void watch(download, arrival)
    } else if (holds(digestKey(digest))) end(download, 'committed')
    else if (clock.now() - since >= LOOK_LIMIT) end(download, 'aborted')
    else {
      const pause = gives ? Math.max((clock.now() - since) / 2, LOOK_INTERVAL) : LOOK_LIMIT
      clock.after(pause, () => look(download))
    }
  }

  async function watch(download: Download, arrival: Arrival): Promise<void> {
    const begun = bounded(BEGIN_LIMIT, undefined, (late) => arrival.grown(0, late), clock).catch(() => arrival.close())
    let isOver = false
    let cancelRenewal: () => void = () => undefined
    const renewLater = (ms = RENEWAL) => {
      cancelRenewal()
      if (!isOver) cancelRenewal = clock.after(ms, renew)
    }
    let grown = { at: clock.now(), to: 0 }
    const renew = () => {
      const { written } = arrival
      if (written !== grown.to) grown = { at: clock.now(), to: written }
      if (written > 0 && !download.hasAll && clock.now() - grown.at >= STILL_LIMIT) return arrival.close()
      onProgress(download)
      renewLater()
    }
    // Keepers must hear of downloads that wait for their turn as well.
    renewLater()
    void begun.then(() => {
      download.begun = { at: clock.now(), written: arrival.written }
      if (arrival.written > 0) renewLater(BEGUN_PATIENCE)
    })
    const ended = await arrival.ended
    isOver = true
    cancelRenewal()
    arrival.close()
    if (ended === 'committed') awaitStore(download, clock.now())
    else end(download, ended)
  }

  /** Waits until the store holds it. */
  function awaitStore(download: Download, since: number): void {
    download.isComplete = true
    freedAt = clock.now()
    if (isClosed) return
    const waited = clock.now() - since
    if (holds(digestKey(download.digest))) end(download, 'committed')
    else if (waited > STORE_PATIENCE) end(download, 'aborted')
    else clock.after(Math.max(waited / 8, LOOK_INTERVAL), () => awaitStore(download, since))
  }

  function end(download: Download, how: 'committed' | 'aborted'): void {
    const { digest, arrival, way, begun, pace } = download
    if (running.get(digest) !== download) return
    const bytes = (arrival?.written ?? 0) - (begun?.written ?? 0)
    // A few bytes may come faster than any link can go on.
    if (how === 'committed' && begun !== undefined && bytes >= CARRIED_BYTES) {
      if (way.kind === 'peers') carried = Math.max(carried, pace)
      else upstreamPace = Math.max(upstreamPace, pace)
    }
    running.delete(digest)
    freedAt = clock.now()
    if (arrival === undefined) unseen++
    download.found.resolve()
    onEnd(download, how)
  }

  return {
    isNext,

    /** How many downloads are being written. */
    get arriving(): number {
      return [...running.values()].filter(({ arrival }) => arrival !== undefined).length
    },

    /** Whether containerd writes where this node sees it; `undefined` if that is not known yet. */
    get areSeen(): boolean | undefined {
      return gives && (hasSeenAny || (unseen < MOST_UNSEEN ? undefined : false))
    },

    get: (digest: Digest): Download | undefined => running.get(digest),

    /** Watches what containerd has just asked for. */
    begin(digest: Digest): Download {
      const known = running.get(digest)
      if (known !== undefined) return known
      const download = new Download(digest, clock)
      if (running.size >= MOST_DOWNLOADS || isClosed) return download
      running.set(digest, download)
      look(download)
      return download
    },

    /**
     * Whether a download that follows a leader had better go upstream: all that this node gets at present is little beside what
     * upstream once gave it. All downloads count, because nodes that share a slow registry still get several layers each.
     */
    isSlow({ arrival, followed, doesParentLead }: Download): boolean {
      const now = clock.now()
      if (arrival?.size === undefined || followed === undefined || !doesParentLead) return false
      const pace = (arrival.written - followed.written) / (now - followed.at)
      // A download that stands still says nothing about its pace.
      if (!(pace > 0) || now - followed.at < PACE_TIME) return false
      const isFar = paceOfAll() * SLOWER < upstreamPace
      return isFar && (arrival.size - arrival.written) / pace > LONG
    },

    /** How many nodes can follow this one without slowing each other down. */
    get room(): number {
      return roomOf(carried, paceOfAll())
    },

    /** What this node answers when another one asks about a digest. */
    stateOf(digest: Digest, asker: Peer): Extract<Answer, { kind: 'arriving' | 'later' | 'held' | 'gone' | 'soon' }> {
      const download = running.get(digest)
      if (holds(digestKey(digest))) return { kind: 'held' }
      if (download === undefined) return { kind: 'gone' }
      if (download.isComplete) return { kind: 'soon' }
      const { arrival, way } = download
      const leads = way.kind === 'upstream' && !download.isChallenger
      const state = { kind: 'arriving', written: arrival?.written ?? 0, size: arrival?.size, leads } as const
      if (download.hasBegun) return state
      const now = clock.now()
      // containerd will ask again, nobody knows when. By then another node may be getting it, or hold it.
      if (way.kind === 'again') return { kind: 'gone' }
      // containerd 2 makes its files only when the first bytes come.
      const patience = way.kind === 'peers' && way.parent !== undefined ? LOOK_LIMIT : ARRIVAL_PATIENCE
      if (arrival === undefined) return { kind: now - download.since < patience ? 'soon' : 'gone' }
      if (way.kind === 'peers') {
        // The two would wait for each other.
        const isCircle = way.parent !== undefined && addressOf(way.parent) === addressOf(asker)
        if (isCircle) return { kind: 'gone' }
        return download.parentLateSince === undefined ? state : { kind: 'later' }
      }
      if (isNext(download, way.at)) {
        const turn = Math.max(way.at, freedAt)
        return now - turn < FIRST_BYTE_PATIENCE ? state : { kind: 'gone' }
      }
      // A running download may be over in a moment.
      return { kind: now - way.at < TURN_PATIENCE ? 'soon' : 'later' }
    },

    /** Why it will not come: upstream gave nothing of it, or containerd had all of it and rejected it. */
    whyAborted(download: Download): 'refused' | 'wrong' | undefined {
      const { arrival, way, isComplete } = download
      if (arrival === undefined) return undefined
      if (download.hasAll) return isComplete ? undefined : 'wrong'
      return way.kind === 'upstream' && !download.hasBegun && isNext(download, way.at) ? 'refused' : undefined
    },

    close(): void {
      isClosed = true
      for (const { arrival } of running.values()) arrival?.close()
      running.clear()
    },
  }
}

/**
 * How many nodes can follow one.
 *
 * @param carried the most that its link has carried, in bytes per millisecond
 * @param pace what it gets at present, in the same unit
 */
export function roomOf(carried: number, pace: number): number {
  return pace > 0 ? Math.min(Math.max(Math.floor(carried / (pace * SPARE)), 1), MOST_FOLLOWERS) : 1
}
