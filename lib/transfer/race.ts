import { OVER, onAbort } from '../platform/abort.ts'
import type { Peer } from '../swarm/router.ts'
import type { CandidatesDependencies } from './candidates.ts'

export interface RaceDependencies<T> extends Pick<CandidatesDependencies, 'known' | 'metrics' | 'clock'> {
  /**
   * The next peer to ask, which may have to be found first; `undefined` if there is none. Never throws. `isWanted` is false once
   * the race is over, so that a peer that is found later is left for others.
   */
  readonly next: (isWanted: () => boolean) => Promise<Peer | undefined>
  /**
   * Asks a peer; returns its answer, or `undefined` if the peer does not have the content or fails. It must end when its signal
   * aborts, and within its own timeout. If it throws before that, the race ends.
   */
  readonly ask: (peer: Peer, signal: AbortSignal) => Promise<T | undefined>
  /** Releases an answer that came after another one. */
  readonly release: (value: T) => void
  /** Whether to wait for a late peer until the deadline; if not, it is stopped. */
  readonly isWorthWaiting: (peer: Peer) => boolean
}

export interface RaceOptions {
  /** The most peers that are asked at the same time. */
  readonly parallelPeers: number
  /** Milliseconds after which a peer without an answer is late. Its place among the asked peers is then free. */
  readonly patience?: number
  /** Milliseconds after which the race has no winner, unless a peer that is being asked may answer. */
  readonly raceTimeout?: number
  /** Milliseconds after which the race has no winner in any case. */
  readonly longestRace?: number
}

export interface Winner<T> {
  readonly peer: Peer
  readonly value: T
}

interface Runner {
  readonly stop: AbortController
  readonly startedAt: number
  isLate: boolean
  cancelLate: () => void
}

/** A head takes some 10 ms on a busy node, so a node without any sign of life for a second is dead. */
const PATIENCE = 1_000
/**
 * Milliseconds that a client waits for a head. containerd would wait for ever, although upstream is there. It is enough for two
 * silent peers in a row, and for one that has many others to answer.
 */
export const RACE_TIMEOUT = 3_000
/**
 * The same while a peer that is being asked shows that it works ({@link Standing.mayAnswer}). Such a peer has too much
 * to do, but upstream may be even slower or down. It is less than the kubelet and people take for a pull that hangs.
 */
export const LONGEST_RACE = 15_000
/** Milliseconds by which the deadline is put off each time. */
const OVERTIME = 500

/**
 * Asks the best peer at once. Asks the next one when the earlier peers have not answered for the hedging delay, or as soon as
 * one has failed, does not have the content, or is late. The first answer wins, even a late one, and the other peers are
 * stopped.
 *
 * @param signal ends the race, which then throws the signal's reason
 * @returns `undefined` if all peers have answered or failed without a winner, or at the deadline
 */
export async function race<T>(
  { next, ask, release, isWorthWaiting, known, metrics, clock }: RaceDependencies<T>,
  { parallelPeers, patience = PATIENCE, raceTimeout = RACE_TIMEOUT, longestRace = LONGEST_RACE }: RaceOptions,
  signal: AbortSignal,
): Promise<Winner<T> | undefined> {
  signal.throwIfAborted()
  const outcome = Promise.withResolvers<Winner<T> | undefined>()
  const runners = new Map<Peer, Runner>()
  const startedAt = clock.now()
  let isOver = false
  let isFinding = false
  let isExhausted = false
  let cancelHedge = (): void => undefined

  /** @param isOutrun whether another peer won, or the deadline came, before those that are still being asked have answered */
  const finish = (settle: () => void, isOutrun: boolean) => {
    isOver = true
    cancelHedge()
    cancelDeadline()
    for (const [peer, runner] of runners) {
      runner.cancelLate()
      if (isOutrun) {
        known.of(peer).outrun(clock.now() - runner.startedAt)
        metrics.peerRequests.inc({ outcome: 'outrun' })
      }
      runner.stop.abort(OVER)
    }
    settle()
  }
  const expire = () => {
    const isWorking = [...runners.keys()].some((peer) => known.of(peer).mayAnswer)
    if (isWorking && clock.now() - startedAt + OVERTIME <= longestRace) cancelDeadline = clock.after(OVERTIME, expire)
    else finish(() => outcome.resolve(undefined), true)
  }
  let cancelDeadline = clock.after(raceTimeout, expire)
  using _ = onAbort(signal, () => finish(() => outcome.reject(signal.reason), false))

  const startNext = async (isHedge: boolean) => {
    const inTime = [...runners.values()].filter(({ isLate }) => !isLate).length
    if (isOver || isFinding || inTime >= parallelPeers) return
    isFinding = true
    const peer = isExhausted ? undefined : await next(() => !isOver)
    isFinding = false
    if (isOver) return
    if (peer === undefined) {
      isExhausted = true
      if (runners.size === 0) finish(() => outcome.resolve(undefined), false)
      return
    }
    if (isHedge) metrics.hedges.inc()
    void run(peer)
    cancelHedge()
    cancelHedge = clock.after(known.pace.hedgeDelay(), () => void startNext(true))
  }
  const run = async (peer: Peer) => {
    const stop = new AbortController()
    const runner: Runner = { stop, startedAt: clock.now(), isLate: false, cancelLate: () => undefined }
    runners.set(peer, runner)
    runner.cancelLate = clock.after(patience, () => lag(peer, runner))
    let value: T | undefined
    try {
      value = await ask(peer, stop.signal)
    } catch (error) {
      if (runners.has(peer) && !isOver) finish(() => outcome.reject(error), false)
    }
    runner.cancelLate()
    const isStopped = !runners.delete(peer)
    if (isOver || isStopped) {
      if (value !== undefined) release(value)
    } else if (value !== undefined) finish(() => outcome.resolve({ peer, value }), true)
    else void startNext(false)
  }
  const lag = (peer: Peer, runner: Runner) => {
    runner.isLate = true
    if (!isWorthWaiting(peer)) {
      runners.delete(peer)
      runner.stop.abort(OVER)
    }
    void startNext(false)
  }
  void startNext(false)
  return await outcome.promise
}
