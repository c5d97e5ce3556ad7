import { patientClock } from '../peers/patient-clock.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'

export interface RaceDependencies<T> {
  /** The next peer to ask, which may have to be found first; `undefined` when there is none. Never throws. */
  readonly next: () => Promise<Peer | undefined>
  /**
   * Asks a peer: what it gives, or `undefined` if it has it not or fails. Must end with its signal, and within a time of its
   * own. What it throws before that ends the race.
   */
  readonly ask: (peer: Peer, signal: AbortSignal) => Promise<T | undefined>
  /** Gets rid of an answer that came after another one. */
  readonly release: (value: T) => void
  readonly clock?: Clock
}

export interface RaceOptions {
  /** How many peers are asked at the same time at most. */
  readonly parallel: number
  /** Milliseconds after which one more peer is asked while those before have not answered; asked for before each. */
  readonly hedgeDelay: () => number
  /** Milliseconds after which there is no winner, whoever is still being asked. */
  readonly deadline: number
  /** What becomes of the deadline when somebody is still being asked then; without it, there is no more time. */
  readonly overtime?: {
    /** Milliseconds by which the deadline is put off, each time that it comes. */
    readonly step: number
    /** Milliseconds from the beginning of the race after which it is not put off any more. */
    readonly most: number
    /** Whether this peer shows at this moment that it works, and is only slow. */
    readonly isDue: (peer: Peer) => boolean
  }
  /** What becomes of a peer that lets itself be waited for; without it, it is waited for until the deadline. */
  readonly late?: {
    /** Milliseconds after which a peer that has not answered is late: its place among those asked is free. */
    readonly after: number
    /** Whether a late peer is still waited for, until the deadline; if not, it is stopped. */
    readonly isWorthWaiting: (peer: Peer) => boolean
  }
  /** Told when a peer is asked only because those before it are slow. */
  readonly onHedge?: (peer: Peer) => void
  /** Told of a peer that had not answered when another one won, or when the deadline came. */
  readonly onOutrun?: (peer: Peer, waitedMs: number) => void
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

/**
 * Asks the best peer at once, and the next one when those before have not answered for the hedging delay, or as soon as
 * one has failed, has it not or is late. The first answer wins, be it that of a late one; the others are stopped.
 *
 * @param signal ends the race; then it throws the signal's reason
 * @returns `undefined` when all peers have answered or failed without a winner, or at the deadline
 */
export async function race<T>(
  { next, ask, release, clock = patientClock }: RaceDependencies<T>,
  { parallel, hedgeDelay, deadline, overtime, late, onHedge, onOutrun }: RaceOptions,
  signal: AbortSignal,
): Promise<Winner<T> | undefined> {
  signal.throwIfAborted()
  const outcome = Promise.withResolvers<Winner<T> | undefined>()
  const runners = new Map<Peer, Runner>()
  let over = false
  let finding = false
  let exhausted = false
  let cancelHedge = (): void => undefined

  const finish = (settle: () => void, outrun: boolean) => {
    over = true
    cancelHedge()
    cancelDeadline()
    signal.removeEventListener('abort', abort)
    for (const [peer, { stop, startedAt, cancelLate }] of runners) {
      cancelLate()
      if (outrun) onOutrun?.(peer, clock.now() - startedAt)
      stop.abort()
    }
    settle()
  }
  const abort = () => finish(() => outcome.reject(signal.reason), false)
  const startedAt = clock.now()
  const expire = () => {
    const mayGoOn = overtime !== undefined && clock.now() - startedAt + overtime.step <= overtime.most
    if (mayGoOn && [...runners.keys()].some((peer) => overtime.isDue(peer))) {
      cancelDeadline = clock.after(overtime.step, expire)
    } else finish(() => outcome.resolve(undefined), true)
  }
  let cancelDeadline = clock.after(deadline, expire)
  signal.addEventListener('abort', abort, { once: true })

  const startNext = async (hedge: boolean) => {
    if (over || finding || exhausted || inTime() >= parallel) return
    finding = true
    const peer = await next()
    finding = false
    if (over) return
    if (peer === undefined) {
      exhausted = true
      if (runners.size === 0) finish(() => outcome.resolve(undefined), false)
      return
    }
    if (hedge) onHedge?.(peer)
    void run(peer)
    cancelHedge()
    cancelHedge = clock.after(hedgeDelay(), () => void startNext(true))
  }
  const run = async (peer: Peer) => {
    const stop = new AbortController()
    const runner: Runner = { stop, startedAt: clock.now(), isLate: false, cancelLate: () => undefined }
    runners.set(peer, runner)
    if (late !== undefined) runner.cancelLate = clock.after(late.after, () => lag(peer, runner))
    let value: T | undefined
    try {
      value = await ask(peer, stop.signal)
    } catch (error) {
      if (runners.has(peer) && !over) finish(() => outcome.reject(error), false)
    }
    runner.cancelLate()
    const isStopped = !runners.delete(peer)
    if (over || isStopped) {
      if (value !== undefined) release(value)
    } else if (value !== undefined) {
      finish(() => outcome.resolve({ peer, value }), true)
    } else {
      goOn()
    }
  }
  const lag = (peer: Peer, runner: Runner) => {
    runner.isLate = true
    if (late?.isWorthWaiting(peer) !== true) {
      runners.delete(peer)
      runner.stop.abort()
    }
    goOn()
  }
  const goOn = () => {
    if (exhausted && runners.size === 0) finish(() => outcome.resolve(undefined), false)
    else void startNext(false)
  }
  /** How many are being asked and not late. */
  const inTime = () => [...runners.values()].filter(({ isLate }) => !isLate).length
  void startNext(false)
  return await outcome.promise
}
