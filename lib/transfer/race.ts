import { OVER, onAbort } from '../platform/abort.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'

export interface RaceDependencies<T> {
  /** The next peer to ask, which may have to be found first; `undefined` when there is none. Never throws. */
  readonly next: () => Promise<Peer | undefined>
  /**
   * Asks a peer: what it gives, or `undefined` if it does not have it or fails. Must end with its signal, and within a time of
   * its own. What it throws before that ends the race.
   */
  readonly ask: (peer: Peer, signal: AbortSignal) => Promise<T | undefined>
  /** Gets rid of an answer that came after another one. */
  readonly release: (value: T) => void
  /** Whether a late peer is still waited for, until the deadline; if not, it is stopped. */
  readonly isWorthWaiting: (peer: Peer) => boolean
  /** Whether a peer shows at this moment that it works, and is only slow. */
  readonly mayAnswer: (peer: Peer) => boolean
  /** Milliseconds after which one more peer is asked while those before have not answered; asked for before each. */
  readonly hedgeDelay: () => number
  /** Told when a peer is asked only because those before it are slow. */
  readonly onHedge: (peer: Peer) => void
  /** Told of a peer that had not answered when another one won, or when the deadline came. */
  readonly onOutrun: (peer: Peer, waitedMs: number) => void
  readonly clock: Clock
}

export interface RaceOptions {
  /** How many peers are asked at the same time at most. */
  readonly parallel: number
  /** Milliseconds after which a peer that has not answered is late: its place among those asked is free. */
  readonly patience: number
  /** Milliseconds after which there is no winner, unless a peer that is being asked may answer. */
  readonly deadline: number
  /** Milliseconds after which there is no winner, even so. */
  readonly longest: number
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

/** By how much the deadline is put off each time, in milliseconds. */
const OVERTIME = 500

/**
 * Asks the best peer at once, and the next one when those before have not answered for the hedging delay, or as soon as
 * one has failed, does not have it or is late. The first answer wins, even a late one; the others are stopped.
 *
 * @param signal ends the race; then it throws the signal's reason
 * @returns `undefined` when all peers have answered or failed without a winner, or at the deadline
 */
export async function race<T>(
  { next, ask, release, isWorthWaiting, mayAnswer, hedgeDelay, onHedge, onOutrun, clock }: RaceDependencies<T>,
  { parallel, patience, deadline, longest }: RaceOptions,
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

  const finish = (settle: () => void, isOutrun: boolean) => {
    isOver = true
    cancelHedge()
    cancelDeadline()
    for (const [peer, runner] of runners) {
      runner.cancelLate()
      if (isOutrun) onOutrun(peer, clock.now() - runner.startedAt)
      runner.stop.abort(OVER)
    }
    settle()
  }
  const expire = () => {
    const mayGoOn = clock.now() - startedAt + OVERTIME <= longest
    if (mayGoOn && [...runners.keys()].some(mayAnswer)) cancelDeadline = clock.after(OVERTIME, expire)
    else finish(() => outcome.resolve(undefined), true)
  }
  let cancelDeadline = clock.after(deadline, expire)
  using _ = onAbort(signal, () => finish(() => outcome.reject(signal.reason), false))

  const startNext = async (isHedge: boolean) => {
    const inTime = [...runners.values()].filter(({ isLate }) => !isLate).length
    if (isOver || isFinding || isExhausted || inTime >= parallel) return
    isFinding = true
    const peer = await next()
    isFinding = false
    if (isOver) return
    if (peer === undefined) {
      isExhausted = true
      if (runners.size === 0) finish(() => outcome.resolve(undefined), false)
      return
    }
    if (isHedge) onHedge(peer)
    void run(peer)
    cancelHedge()
    cancelHedge = clock.after(hedgeDelay(), () => void startNext(true))
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
    else goOn()
  }
  const lag = (peer: Peer, runner: Runner) => {
    runner.isLate = true
    if (!isWorthWaiting(peer)) {
      runners.delete(peer)
      runner.stop.abort(OVER)
    }
    goOn()
  }
  const goOn = () => {
    if (isExhausted && runners.size === 0) finish(() => outcome.resolve(undefined), false)
    else void startNext(false)
  }
  void startNext(false)
  return await outcome.promise
}
