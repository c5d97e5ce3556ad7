import type { Flight, Source } from '../flight/flight.ts'
import type { Logger } from '../observe/log.ts'
import type { Descriptor, Digest } from '../oci/digest.ts'
import { type Key, targetKey } from '../oci/key.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import { digestNamed } from '../oci/path.ts'
import { PeerError } from '../peers/error.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { bounded, OVER, until } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRefusal, PeerRequest } from './ask.ts'
import { type Candidates, candidatesFor } from './candidates.ts'
import type { TransferMetrics } from './metrics.ts'
import { race, type Winner } from './race.ts'

/** What a peer says that does not have the content, and is getting it. */
export interface ArrivingHead {
  readonly kind: 'arriving'
  readonly descriptor: Descriptor
}

/** What a search finds. */
export type Found = PeerHead | ArrivingHead

export interface SearchDependencies {
  readonly flight: Flight
  readonly known: KnownPeers
  /** Asks one peer. @throws {PeerError} */
  readonly ask: (peer: Peer, request: PeerRequest, signal: AbortSignal) => Promise<PeerHead | PeerRefusal>
  readonly metrics: TransferMetrics
  readonly log: Logger
  readonly clock: Clock
}

export interface SearchOptions {
  /** Milliseconds for which one lookup may look for peers. */
  readonly lookupTimeout: number
  /** How many peers are asked at the same time at most. */
  readonly parallelPeers: number
  /** Milliseconds after which a race has no winner, unless a peer that is being asked shows that it works. */
  readonly raceTimeout?: number
  /** Milliseconds after which a race has no winner, even so. */
  readonly longestRace?: number
  /** Milliseconds without the head of an answer after which a peer is late, and given up unless it seems to be busy. */
  readonly patience?: number
}

/**
 * How long a client waits for a head, in milliseconds: containerd waits for ever, and upstream is there. Enough for two
 * silent peers in a row, and for one that has many others to answer.
 */
const RACE_TIMEOUT = 3_000
/**
 * The same while a peer that is being asked shows that it works ({@link Standing.mayAnswer}): it has too much to do, and
 * upstream may be slower still, or not there. Below what kubelet and people take for a pull that hangs.
 */
export const LONGEST_RACE = 15_000
/**
 * Milliseconds for which a peer that is getting content may say nothing, or not enough, and after which it is asked again: its
 * containerd begins to write, or writes the byte that is wanted, in a moment.
 */
const STATE_TIMEOUT = 600
const STATE_RETRY = 50
/** The same for one that goes upstream when its turn has come: this node's client comes again. */
const LATER_TIMEOUT = 300
/**
 * Milliseconds in which others may be named in the place of peers that are getting content: of those that do not answer, and of
 * those that say that they have given up. The latter may have been waited for, and cost nothing.
 */
const REPLACEMENT_TIMEOUT = 1_000
const LONGEST_REPLACEMENT = 5_000
/** A head takes some 10 ms on a busy node: after a second a node that nothing else is heard of is dead. */
const PATIENCE = 1_000

/** By which it is held against a peer that bytes were wrong when it was followed: what it has by now may be right. */
export function flightKey(key: Key): Key {
  return `${key} in flight` as Key
}

/** The peers that one piece of content may come from. */
export type Search = ReturnType<typeof createSearch>

/** @param suits whether a peer may be asked at this moment */
export function createSearch(
  { flight, known, ask, metrics, log, clock }: SearchDependencies,
  options: SearchOptions,
  target: PeerRequest['target'],
  suits: (peer: Source) => boolean,
) {
  const { raceTimeout = RACE_TIMEOUT, longestRace = LONGEST_RACE, patience = PATIENCE } = options
  const key = targetKey(target)
  const digest = digestNamed(target)
  const stop = new AbortController()
  /** Addresses of those that were given up before they gave anything. */
  const vain = new Set<string>()
  let candidates: Candidates | undefined
  /** How many peers have been asked to begin. */
  let attempts = 0
  /** Whether the client asks whether the content is there, and does not want it now. */
  let isHead = false
  /** When a peer that was busy in the present race may be asked again. */
  let freeAt = Number.POSITIVE_INFINITY
  /** For how many milliseconds others may be named in the place of a peer that was given up in the present race. */
  let replacement = 0

  async function* sources(signal: AbortSignal): AsyncIterable<Source> {
    if (isHead) return yield* flight.holders(key, signal)
    for await (const peer of flight.sources(key, signal, target)) {
      const isWrong = peer.isArriving === true && known.isWrong(peer, flightKey(key))
      if (isWrong) leave(peer, true, REPLACEMENT_TIMEOUT)
      else yield peer
    }
  }

  function lookUp(): Candidates {
    const onLookup = (ms: number, wasFound: boolean) => {
      const found = wasFound ? 'true' : 'false'
      metrics.lookups.inc({ found })
      metrics.lookupSeconds.observe({ found }, ms / 1000)
    }
    const isVain = (peer: Source) => peer.isArriving === true && vain.has(addressOf(peer))
    // Who was left may hang.
    const hasLeft = (peer: Source) => digest !== undefined && flight.hasLeft(peer, digest)
    const mayAsk = (peer: Source) => !isVain(peer) && suits(peer) && !known.isWrong(peer, key) && !hasLeft(peer)
    return candidatesFor(key, { known, log, clock, onLookup }, sources, options.lookupTimeout, mayAsk)
  }

  /** Lets the flight name another one in the place of a peer that is getting the content. */
  function leave(peer: Peer, isRefused: boolean, forMs: number): void {
    if (digest !== undefined) flight.left(peer, digest, isRefused)
    replacement = forMs
    vain.add(addressOf(peer))
  }

  /** Takes note of a peer that is late. One that seems to be busy may be the only one that has the content. */
  function isWorthWaiting(peer: Source): boolean {
    if (peer.isArriving === true) return true
    const isBusy = known.of(peer).failed('silent')
    if (isBusy) log.debug('peer is late', { key, peer })
    else {
      metrics.peerRequests.inc({ outcome: 'silent' })
      log.warn('peer failed', { key, peer, error: new PeerError('no answer in time', { failure: 'silent' }) })
    }
    return isBusy
  }

  /** What the peer has, if it has it. */
  async function askOf(
    peer: Source,
    request: PeerRequest,
    start: number,
    signal: AbortSignal,
  ): Promise<Found | undefined> {
    attempts++
    try {
      if (peer.isArriving === true) {
        const state = await stateOf(peer, start, true, signal)
        if (state !== 'held') return state
      }
      const answer = await ask(peer, request, signal)
      if (answer.kind === 'busy') freeAt = Math.min(freeAt, clock.now() + answer.retryAfterMs)
      return answer.kind === 'busy' || answer.kind === 'missing' ? undefined : answer
    } catch (error) {
      if (signal.aborted || !(error instanceof PeerError)) throw error
      return undefined
    }
  }

  /**
   * What a peer says that was getting the blob: that it still is, or has it; `undefined` if it can give nothing from that place
   * on.
   *
   * @param start in bytes; a peer that does not have this one yet may be waiting for this very node. Keepers see to it that it
   *   does not where the first byte is wanted for the first time: then it may have none.
   */
  async function stateOf(
    peer: Peer,
    start: number,
    isFirst: boolean,
    signal: AbortSignal = stop.signal,
  ): Promise<ArrivingHead | 'held' | undefined> {
    if (target.kind !== 'blob') return undefined
    const begunAt = clock.now()
    let isSilent = false
    for (;;) {
      const state = await bounded(STATE_TIMEOUT, signal, (late) => flight.state(peer, target.digest, late))
      isSilent = state === undefined
      if (state?.kind === 'held') return 'held'
      if (state?.kind === 'waiting' && isFirst && start === 0) return arrivingHead(target.digest, state.size)
      const isAhead = state?.kind === 'arriving' && ((isFirst && start === 0) || state.written > start)
      if (isAhead && state.size !== undefined) return arrivingHead(target.digest, state.size)
      // Whoever is behind may come there late, or never.
      if (state === undefined || state.kind === 'gone' || (state.kind === 'arriving' && !isAhead)) break
      const isLast = clock.now() + STATE_RETRY > begunAt + (state.kind === 'later' ? LATER_TIMEOUT : STATE_TIMEOUT)
      if (isLast && state.kind === 'later') return undefined
      if (isLast) break
      await until(clock, clock.now() + STATE_RETRY, signal).catch(() => undefined)
      if (signal.aborted) return undefined
    }
    if (signal.aborted) return undefined
    leave(peer, false, isSilent ? REPLACEMENT_TIMEOUT : LONGEST_REPLACEMENT)
    return undefined
  }

  return {
    stateOf,

    get attempts() {
      return attempts
    },

    /** Ends the lookup that is under way. */
    close(): void {
      stop.abort(OVER)
      candidates?.stop()
    },

    /**
     * The first good answer: of the peers found before that were not asked yet, or else of those that a new lookup finds. If
     * there is none because peers have too much to do, they are asked again when they say, within the time of a race.
     *
     * @param start the first byte that is wanted
     * @returns `undefined` when no peer has it, or none answers in time. Never throws for a peer's fault.
     * @throws the signal's reason
     */
    async open(
      request: Omit<PeerRequest, 'target'>,
      signal: AbortSignal,
      start = 0,
    ): Promise<Winner<Found> | undefined> {
      const begunAt = clock.now()
      isHead = request.method === 'HEAD'
      for (;;) {
        const isFresh = candidates === undefined
        candidates ??= lookUp()
        const { next } = candidates
        replacement = 0
        freeAt = Number.POSITIVE_INFINITY
        const winner = await race<Found>(
          {
            next: () => next(),
            ask: (peer, late) => askOf(peer, { ...request, target }, start, late),
            release: (head) => void (head.kind === 'content' && head.body.cancel()),
            isWorthWaiting,
            mayAnswer: (peer) => known.of(peer).mayAnswer,
            hedgeDelay: () => known.pace.hedgeDelay(),
            onHedge: () => metrics.hedges.inc(),
            onOutrun: (peer, waitedMs) => {
              known.of(peer).outrun(waitedMs)
              metrics.peerRequests.inc({ outcome: 'outrun' })
            },
            clock,
          },
          { parallel: options.parallelPeers, patience, deadline: raceTimeout, longest: longestRace },
          signal,
        )
        if (winner !== undefined) return winner
        candidates.stop()
        candidates = undefined
        // The flight may name another one in its place.
        if (!isFresh || clock.now() - begunAt < replacement) continue
        if (freeAt > begunAt + raceTimeout) return undefined
        await until(clock, freeAt, signal)
      }
    },

    /** A peer that was found before and not asked yet, or else one that a new lookup finds. */
    async candidate(isWanted?: (peer: Source) => boolean): Promise<Source | undefined> {
      let found = await candidates?.next(isWanted)
      if (found === undefined && !stop.signal.aborted) {
        candidates = lookUp()
        found = await candidates.next(isWanted)
      }
      if (found !== undefined) attempts++
      return found
    },

    /** One that is getting the content, among the peers that the last lookup has found. */
    async arriving(): Promise<Source | undefined> {
      return await candidates?.next(({ isArriving }) => isArriving === true)
    },
  }
}

function arrivingHead(digest: Digest, size: number): ArrivingHead {
  return { kind: 'arriving', descriptor: { mediaType: OCTET_STREAM, digest, size } }
}
