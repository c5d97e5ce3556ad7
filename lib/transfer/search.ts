import type { Flight, Source } from '../flight/flight.ts'
import type { Descriptor } from '../oci/digest.ts'
import { type Key, targetKey } from '../oci/key.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import { PeerError } from '../peers/error.ts'
import { bounded, OVER, until } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRefusal, PeerRequest } from './ask.ts'
import { type Candidates, type CandidatesDependencies, candidatesFor } from './candidates.ts'
import { RACE_TIMEOUT, type RaceOptions, race, type Winner } from './race.ts'

/** The answer of a peer that is still getting the content. */
export interface ArrivingHead {
  readonly kind: 'arriving'
  readonly descriptor: Descriptor
}

/** The result of a search. */
export type Found = PeerHead | ArrivingHead

export interface SearchDependencies extends CandidatesDependencies {
  readonly flight: Flight
  /** Asks one peer. @throws {PeerError} */
  readonly ask: (peer: Peer, request: PeerRequest, signal: AbortSignal) => Promise<PeerHead | PeerRefusal>
}

export interface SearchOptions extends RaceOptions {
  /** Milliseconds for which one lookup may look for peers. */
  readonly lookupTimeout: number
}

/**
 * Milliseconds for a peer that is getting content to say that it has the wanted byte, and milliseconds between two questions:
 * its containerd may begin to write, or write that byte, in a moment.
 */
const STATE_TIMEOUT = 600
const STATE_RETRY = 100
/** The same for a peer that goes upstream when its turn comes, because this node's client asks again. */
const LATER_TIMEOUT = 300
/**
 * Milliseconds in which the flight may name replacements for peers that are getting content: for those that do not answer, and
 * for those that say that they have given up. The second time is longer, because it includes the time for which this node
 * waited for such a peer.
 */
const REPLACEMENT_TIMEOUT = 1_000
const LONGEST_REPLACEMENT = 5_000

/** The key for wrong bytes of a peer that was followed. Content that the peer holds by now may be right. */
export function flightKey(key: Key): Key {
  return `${key} in flight` as Key
}

/** Finds the peers from which some content may come. */
export type Search = ReturnType<typeof createSearch>

/** @param suits whether a peer may be asked now */
export function createSearch(
  { flight, known, ask, metrics, log, clock }: SearchDependencies,
  options: SearchOptions,
  target: PeerRequest['target'],
  suits: (peer: Source) => boolean,
) {
  const key = targetKey(target)
  const { digest } = target
  const stop = new AbortController()
  /** The addresses of peers that were given up before they sent anything. */
  const vain = new Set<string>()
  let candidates: Candidates | undefined
  /** Whether the client only asks whether the content is there. */
  let isHead = false
  /** When a busy peer of the present race may be asked again. */
  let freeAt = Number.POSITIVE_INFINITY
  /** Milliseconds in which the flight may name a replacement for a peer that was given up in the present race. */
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
    const isVain = (peer: Source) => peer.isArriving === true && vain.has(addressOf(peer))
    // A peer that was left may hang.
    const hasLeft = (peer: Source) => digest !== undefined && flight.hasLeft(peer, digest)
    const mayAsk = (peer: Source) => !isVain(peer) && suits(peer) && !known.isWrong(peer, key) && !hasLeft(peer)
    return candidatesFor(key, { known, log, metrics, clock }, sources, options.lookupTimeout, mayAsk)
  }

  /**
   * Lets the flight name a replacement for a peer within so many milliseconds. Otherwise all nodes that ask a holder without the
   * content would go upstream.
   */
  function giveUp(peer: Peer, isRefused: boolean, forMs: number): void {
    if (digest !== undefined && !isHead && flight.left(peer, digest, isRefused)) replacement = forMs
  }

  /** The same for a peer that is getting the content, and is not asked again. */
  function leave(peer: Peer, isRefused: boolean, forMs: number): void {
    giveUp(peer, isRefused, forMs)
    vain.add(addressOf(peer))
  }

  /** Notes a late peer. A peer that seems to be busy may be the only one that has the content. */
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

  /** Asks a peer; returns its answer if it has the content. */
  async function askOf(
    peer: Source,
    request: PeerRequest,
    start: number,
    signal: AbortSignal,
  ): Promise<Found | undefined> {
    try {
      if (peer.isArriving === true) {
        const state = await stateOf(peer, start, true, signal)
        if (state !== 'held') return state
      }
      const answer = await ask(peer, request, signal)
      if (answer.kind === 'busy') freeAt = Math.min(freeAt, clock.now() + answer.retryAfterMs)
      if (answer.kind === 'busy') return undefined
      if (answer.kind !== 'missing') return answer
    } catch (error) {
      if (signal.aborted || !(error instanceof PeerError)) throw error
    }
    giveUp(peer, true, REPLACEMENT_TIMEOUT)
    return undefined
  }

  /**
   * Asks a peer that was getting the blob whether it still is, or has it; `undefined` if it can send nothing from that offset
   * on.
   *
   * @param start offset of the wanted byte. A peer that does not have it yet may be waiting for this very node. Only if the
   *   first byte is wanted for the first time may a peer have none, because then keepers prevent that.
   */
  async function stateOf(
    peer: Peer,
    start: number,
    isFirst: boolean,
    signal: AbortSignal = stop.signal,
  ): Promise<ArrivingHead | 'held' | undefined> {
    if (target.kind !== 'blob' || digest === undefined) return undefined
    const isNew = isFirst && start === 0
    const begunAt = clock.now()
    for (;;) {
      const state = await bounded(STATE_TIMEOUT, signal, (late) => flight.state(peer, digest, late), clock)
      if (state?.kind === 'held') return 'held'
      const isAhead = state?.kind === 'arriving' && (isNew || state.written > start)
      if ((isAhead || (state?.kind === 'waiting' && isNew)) && state.size !== undefined) {
        return { kind: 'arriving', descriptor: { mediaType: OCTET_STREAM, digest, size: state.size } }
      }
      const isLater = state?.kind === 'later'
      const isLast = clock.now() + STATE_RETRY > begunAt + (isLater ? LATER_TIMEOUT : STATE_TIMEOUT)
      // A peer that is behind may get there late, or never.
      const isVain = state === undefined || state.kind === 'gone' || (state.kind === 'arriving' && !isAhead)
      if (isVain || isLast) {
        const forMs = state === undefined ? REPLACEMENT_TIMEOUT : LONGEST_REPLACEMENT
        if (!isLater && !signal.aborted) leave(peer, false, forMs)
        return undefined
      }
      await until(clock, clock.now() + STATE_RETRY, signal).catch(() => undefined)
      if (signal.aborted) return undefined
    }
  }

  return {
    stateOf,

    /** Ends the lookup under way. */
    close(): void {
      stop.abort(OVER)
      candidates?.stop()
    },

    /**
     * The first good answer of peers that a lookup finds. If there is none because peers are busy, they are asked again when
     * they say, within the time of a race.
     *
     * @param start offset of the first wanted byte
     * @returns `undefined` if no peer has the content, or none answers in time. Never throws for a peer's failure.
     * @throws the signal's reason
     */
    async open(request: PeerRequest, signal: AbortSignal, start = 0): Promise<Winner<Found> | undefined> {
      const begunAt = clock.now()
      isHead = request.method === 'HEAD'
      for (;;) {
        const found = lookUp()
        candidates = found
        replacement = 0
        freeAt = Number.POSITIVE_INFINITY
        const winner = await race<Found>(
          {
            next: found.next,
            ask: (peer, late) => askOf(peer, request, start, late),
            release: (head) => void (head.kind === 'content' && head.body.cancel()),
            ...{ isWorthWaiting, known, metrics, clock },
          },
          options,
          signal,
        )
        if (winner?.value.kind === 'arriving') return winner
        // A peer that was named because it was getting the content may hold it by now.
        if (winner !== undefined) return { ...winner, peer: { host: winner.peer.host, port: winner.peer.port } }
        found.stop()
        // The flight may name a replacement.
        if (clock.now() - begunAt < replacement) continue
        if (freeAt > begunAt + (options.raceTimeout ?? RACE_TIMEOUT)) return undefined
        await until(clock, freeAt, signal)
      }
    },

    /** A peer that was found before and not asked yet, or else a peer that a new lookup finds. */
    async candidate(isWanted?: (peer: Source) => boolean): Promise<Source | undefined> {
      const found = await candidates?.next(isWanted)
      if (found !== undefined || stop.signal.aborted) return found
      candidates = lookUp()
      return await candidates.next(isWanted)
    },

    /** A peer that is getting the content, among those that the last lookup has found. */
    async arriving(): Promise<Source | undefined> {
      return await candidates?.next(({ isArriving }) => isArriving === true)
    },
  }
}
