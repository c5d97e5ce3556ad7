import type { Digest } from '../oci/digest.ts'
import { digestKey, type Key } from '../oci/key.ts'
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
  /** Whether this node offers it to others. */
  readonly holds: (key: Key) => boolean
  readonly clock: Clock
  /** Told when the first byte is there, but not all, and then each {@link RENEWAL}. */
  readonly onProgress: (download: Download) => void
  readonly onEnd: (download: Download, end: 'committed' | 'aborted') => void
}

/**
 * Milliseconds from one look whether something arrives to the next, at first, and after which it is forgotten if it does not. Most
 * of what is asked for never arrives: looks become rarer, or they would cost more than the answer.
 */
const LOOK_INTERVAL = 10
const LOOK_LIMIT = 1_000
/** Milliseconds for which others are let to wait until it arrives: containerd's files are there before it asks. */
const ARRIVAL_PATIENCE = 300
/** Milliseconds from the last byte until the store must have it: containerd's database follows its files. */
const STORE_PATIENCE = 5_000
/** Milliseconds in which what runs may end, so that it has a place at once. */
const TURN_PATIENCE = 150
/** Milliseconds for which the first byte from upstream is waited for: containerd writes it with the first MiB. */
const FIRST_BYTE_PATIENCE = 3_000
/** Milliseconds after which what has not begun is forgotten: its turn may come late, but not that late. */
const BEGIN_LIMIT = 600_000
/**
 * How many downloads containerd has at a time: `max_concurrent_downloads` by default. containerd 2 goes upstream only when
 * one of them is free, and a download from this node takes one as well.
 */
const PLACES = 3
/**
 * A leader is too slow for who follows it if what is left would take more than that many milliseconds, and this node has got
 * that many times as much from upstream; seen for that many milliseconds.
 */
const LONG = 8_000
const SLOWER = 4
const PACE_TIME = 3_000
/** What any registry gives, in bytes per millisecond. */
const LEAST_PACE = 2_000
/**
 * A node can be followed by one more if its link has carried, in a download of so many bytes from a peer, so many times what
 * all that follow it would get then.
 */
const CARRIED_BYTES = 4 << 20
const SPARE = 1.5
/** After how many downloads of which none is seen this node does not wait any more until it sees the next one. */
const MOST_UNSEEN = 3
/** Downloads that are watched at a time. */
const MOST_DOWNLOADS = 1_024

/** What the clients of this node are getting, as far as its store can tell. */
export class Downloads {
  readonly #dependencies: DownloadsDependencies
  readonly #running = new Map<Digest, Download>()
  #hasSeenAny = false
  /** The fastest that anything has come from upstream, in bytes per millisecond. */
  #upstreamPace = LEAST_PACE
  /** The most that has come from peers at a time, in bytes per millisecond: what a link takes it can give. */
  #carried = 0
  #unseen = 0
  /** When containerd last had a place again. */
  #freedAt = 0
  readonly #closing = new AbortController()

  constructor(dependencies: DownloadsDependencies) {
    this.#dependencies = dependencies
  }

  /** How many are being written. */
  get arriving(): number {
    return [...this.#running.values()].filter(({ arrival }) => arrival !== undefined).length
  }

  /** Whether clients of this node write where this node sees it; `undefined` if that is not known yet. */
  get areSeen(): boolean | undefined {
    return this.#hasSeenAny || (this.#unseen < MOST_UNSEEN ? undefined : false)
  }

  get(digest: Digest): Download | undefined {
    return this.#running.get(digest)
  }

  /** Watches what a client has just asked for. */
  begin(digest: Digest): Download {
    const known = this.#running.get(digest)
    if (known !== undefined) return known
    const download = new Download(digest, this.#dependencies.clock)
    if (this.#running.size >= MOST_DOWNLOADS || this.#closing.signal.aborted) return download
    this.#running.set(digest, download)
    this.#look(download)
    return download
  }

  /**
   * Whether a download that follows a leader had better go upstream itself: all that this node gets at present is little
   * beside what it has got from upstream. Where many nodes share what the registry sends, each still gets several layers.
   */
  isSlow({ arrival, followed, doesParentLead }: Download): boolean {
    const now = this.#dependencies.clock.now()
    if (arrival?.size === undefined || followed === undefined || !doesParentLead) return false
    const pace = (arrival.written - followed.written) / (now - followed.at)
    // What stands still says nothing of its pace.
    if (!(pace > 0) || now - followed.at < PACE_TIME) return false
    const isFar = this.#pace * SLOWER < this.#upstreamPace
    return isFar && (arrival.size - arrival.written) / pace > LONG
  }

  /** How many nodes can follow this one, each of which then gets all that it gets. */
  get room(): number {
    return roomOf(this.#carried, this.#pace)
  }

  /** What another node is told of a digest. */
  stateOf(digest: Digest, asker: Peer): Extract<Answer, { kind: 'arriving' | 'later' | 'held' | 'gone' | 'soon' }> {
    const { holds, clock } = this.#dependencies
    const download = this.#running.get(digest)
    if (holds(digestKey(digest))) return { kind: 'held' }
    if (download === undefined) return { kind: 'gone' }
    if (download.isComplete) return { kind: 'soon' }
    const { arrival, way } = download
    const leads = way.kind === 'upstream' && !download.isChallenger
    const state = { kind: 'arriving', written: arrival?.written ?? 0, size: arrival?.size, leads } as const
    if (download.hasBegun) return state
    const now = clock.now()
    // Its client will ask again, nobody knows when. Somebody else may be getting it by then, or have it.
    if (way.kind === 'again') return { kind: 'gone' }
    // containerd 2 makes its files when the first bytes come.
    const patience = way.kind === 'peers' && way.parent !== undefined ? LOOK_LIMIT : ARRIVAL_PATIENCE
    if (arrival === undefined) return { kind: now - download.since < patience ? 'soon' : 'gone' }
    if (way.kind === 'peers') {
      // Each would wait for the other.
      const isCircle = way.parent !== undefined && addressOf(way.parent) === addressOf(asker)
      if (isCircle) return { kind: 'gone' }
      return download.parentLateSince === undefined ? state : { kind: 'later' }
    }
    if (this.isNext(download, way.at)) {
      const turn = Math.max(way.at, this.#freedAt)
      return now - turn < FIRST_BYTE_PATIENCE ? state : { kind: 'gone' }
    }
    // What runs at this moment may be over in a moment.
    return { kind: now - way.at < TURN_PATIENCE ? 'soon' : 'later' }
  }

  /** Why it will not come: upstream gives nothing of it, or containerd has all of it and does not want it. */
  whyAborted(download: Download): 'refused' | 'wrong' | undefined {
    const { arrival, way, isComplete } = download
    if (arrival === undefined) return undefined
    if (download.hasAll) return isComplete ? undefined : 'wrong'
    return way.kind === 'upstream' && !download.hasBegun && this.isNext(download, way.at) ? 'refused' : undefined
  }

  close(): void {
    this.#closing.abort(new Error('closed'))
    for (const { arrival } of this.#running.values()) arrival?.close()
    this.#running.clear()
  }

  /** Whether containerd has a place for what it was sent upstream for at that time. */
  isNext(download: Download, at: number): boolean {
    const before = [...this.#running.values()].filter(
      (other) =>
        other !== download &&
        other.arrival !== undefined &&
        !other.hasAll &&
        (other.hasBegun || other.way.kind === 'peers' || (other.way.kind === 'upstream' && other.way.at < at)),
    )
    return before.length < PLACES
  }

  /** What comes at present, in bytes per millisecond. */
  get #pace(): number {
    const now = this.#dependencies.clock.now()
    return [...this.#running.values()]
      .map(
        ({ arrival, begun }) =>
          (arrival && begun && (arrival.written - begun.written) / Math.max(now - begun.at, 1)) ?? 0,
      )
      .reduce((sum, one) => sum + one, 0)
  }

  /** Looks for its arrival, and again. */
  #look(download: Download): void {
    const { store, holds, clock } = this.#dependencies
    const { digest, since } = download
    if (this.#closing.signal.aborted) return
    const arrival = store.arriving(digest)
    if (arrival !== undefined) {
      this.#hasSeenAny = true
      download.arrival = arrival
      download.found.resolve()
      void this.#watch(download, arrival)
    } else if (holds(digestKey(digest))) this.#end(download, 'committed')
    else if (clock.now() - since > LOOK_LIMIT) this.#end(download, 'aborted')
    else clock.after(Math.max((clock.now() - since) / 2, LOOK_INTERVAL), () => this.#look(download))
  }

  async #watch(download: Download, arrival: Arrival): Promise<void> {
    const { clock, onProgress } = this.#dependencies
    const stop = new AbortController()
    const cancelLimit = clock.after(BEGIN_LIMIT, () => stop.abort(new Error('nothing has come')))
    const begun = arrival.grown(0, stop.signal).then(
      () => cancelLimit(),
      () => arrival.close(),
    )
    let cancelRenewal: () => void = () => undefined
    const renewLater = () => {
      cancelRenewal()
      if (!stop.signal.aborted) cancelRenewal = clock.after(RENEWAL, renew)
    }
    const renew = () => {
      onProgress(download)
      renewLater()
    }
    // Those who wait for their turn are heard of, too.
    renewLater()
    void begun.then(() => {
      download.begun = { at: clock.now(), written: arrival.written }
      // What is all there will be told to be held in a moment: that is enough.
      if (!stop.signal.aborted && arrival.written > 0 && !download.hasAll) renew()
    })
    const end = await arrival.ended
    cancelLimit()
    stop.abort()
    renewLater()
    arrival.close()
    if (end === 'committed') this.#store(download, clock.now())
    else this.#end(download, end)
  }

  /** Waits until the store holds what has come. */
  #store(download: Download, since: number): void {
    const { holds, clock } = this.#dependencies
    download.isComplete = true
    this.#freedAt = clock.now()
    if (this.#closing.signal.aborted) return
    const waited = clock.now() - since
    if (holds(digestKey(download.digest))) this.#end(download, 'committed')
    else if (waited > STORE_PATIENCE) this.#end(download, 'aborted')
    else clock.after(Math.max(waited / 8, LOOK_INTERVAL), () => this.#store(download, since))
  }

  #end(download: Download, end: 'committed' | 'aborted'): void {
    const { digest, arrival, way, begun } = download
    if (this.#running.get(digest) !== download) return
    if (end === 'committed' && begun !== undefined && arrival !== undefined) {
      const bytes = arrival.written - begun.written
      const ms = Math.max(this.#dependencies.clock.now() - begun.at, 1)
      // A few bytes may come at a pace that no link carries for long.
      const pace = bytes >= CARRIED_BYTES ? bytes / ms : 0
      if (way.kind === 'peers') this.#carried = Math.max(this.#carried, pace)
      else this.#upstreamPace = Math.max(this.#upstreamPace, pace)
    }
    this.#running.delete(digest)
    this.#freedAt = this.#dependencies.clock.now()
    if (arrival === undefined) this.#unseen++
    download.found.resolve()
    this.#dependencies.onEnd(download, end)
  }
}

/**
 * How many can follow a node.
 *
 * @param carried what its link has carried
 * @param pace what comes at present
 */
export function roomOf(carried: number, pace: number): number {
  return pace > 0 ? Math.min(Math.max(Math.floor(carried / (pace * SPARE)), 1), MOST_FOLLOWERS) : 1
}
