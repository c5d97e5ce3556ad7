import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../observe/log.ts'
import { Readiness } from '../../observe/readiness.ts'
import { bounded, onAbort, orAborted } from '../../platform/abort.ts'

/** Times are in milliseconds. */
const DEFAULTS = {
  /**
   * Between two looks at everything if no event comes: garbage collection may remove content without one. Each wait is up
   * to a tenth shorter or longer, so that the nodes of a cluster do not look at the same time.
   */
  reconcileInterval: 60_000,
  /**
   * Between two looks if events do not report everything, and how long after the last change or event that lasts: garbage collection
   * runs about a second after an image was removed, unpacking may discard layers some time after a pull, and a layer takes its time
   * to come.
   */
  restlessInterval: 2_000,
  restlessTime: 60_000,
  /**
   * How long events gather before a look, since a pull by CRI makes three names and labels them. Short at first, so that others
   * soon find what a pull has brought. The time doubles whenever more events have come meanwhile, so that looks (some 15 ms with
   * 100 images) take a small part of a processor however much happens.
   */
  gatherFirst: 25,
  gatherMost: 400,
  /** The first and the longest wait before another try to reach containerd; it doubles in between. A restart takes a second. */
  retryFirst: 250,
  retryMost: 10_000,
  /** From 0 up to 1, for jitter. */
  random: Math.random,
}

export type ObserverOptions = Partial<typeof DEFAULTS>

export interface ObserverDependencies {
  /**
   * Resolves when the subscription misses nothing from then on. The stream ends or throws when that is over. The signal aborts with
   * the error that ends the attempt.
   */
  subscribe(signal: AbortSignal): Promise<AsyncIterable<unknown>>
  /** Looks at everything. Returns whether something may have changed. */
  reconcile(signal: AbortSignal): Promise<boolean>
  /** Whether events report every change, also those that containerd does not report. No look then follows a change. */
  hearsAll(): boolean
  readonly log: Logger
  readonly readiness?: Readiness | undefined
}

/**
 * Keeps looking: at first, after each event, at intervals, and after containerd was away. It repeats what fails for ever, at growing
 * intervals; `isUp` says so.
 */
export function createObserver(dependencies: ObserverDependencies, options: ObserverOptions = {}) {
  const { subscribe, reconcile, hearsAll, log, readiness = new Readiness() } = dependencies
  const { reconcileInterval, restlessInterval, restlessTime, random, ...waits } = { ...DEFAULTS, ...options }
  const { gatherFirst, gatherMost, retryFirst, retryMost } = waits
  const closing = new AbortController()
  const reached = readiness.wait('containerd has not answered yet')
  let failures = 0
  /** Resolves when something happens that the last look may have missed; `isQuiet` until then. */
  let rung = Promise.withResolvers<true>()
  let isQuiet = true
  let isSettled = false
  const ring = () => {
    isQuiet = false
    isSettled = false
    rung.resolve(true)
  }

  function answered(): void {
    if (reached.reasons.length > 0) log.info('containerd answers', { failures })
    reached.over()
    failures = 0
  }

  /** Returns the time to wait before the next attempt, in milliseconds. */
  function lost(error: unknown): number {
    isSettled = false
    const wait = Math.min(retryMost, retryFirst * 2 ** failures) * (0.5 + random() / 2)
    const fields = { error, failures, retryInMs: Math.round(wait) }
    // A warning once, since nothing changes until containerd answers.
    if (failures === 0) log.warn('containerd does not answer', fields)
    else log.debug('containerd still does not answer', fields)
    reached.for(error instanceof Error ? error.message : String(error))
    failures += 1
    return wait
  }

  /** One subscription and its looks, until something throws. */
  async function observe(signal: AbortSignal): Promise<never> {
    const events = await subscribe(signal)
    let failure: { readonly error: unknown } | undefined
    const listening = (async () => {
      for await (const _event of events) ring()
      throw new Error('the stream of events ended')
    })()
    listening.catch((error: unknown) => {
      failure = { error }
      ring()
    })
    let gathering = gatherFirst
    for (let restlessUntil = performance.now() + restlessTime; ; ) {
      rung = Promise.withResolvers()
      isQuiet = true
      const changed = await reconcile(signal)
      answered()
      const since = performance.now()
      if (changed) restlessUntil = since + restlessTime
      const isCalm = hearsAll() || since >= restlessUntil
      isSettled = isQuiet && isCalm
      const interval = isCalm ? reconcileInterval * (0.9 + random() / 5) : restlessInterval
      const ringing = (bound: AbortSignal) => orAborted(rung.promise, bound)
      const wasRung = failure !== undefined || (await bounded(interval, signal, ringing))
      signal.throwIfAborted()
      if (failure !== undefined) throw failure.error
      if (wasRung) restlessUntil = performance.now() + restlessTime
      gathering = nextGathering(gathering, performance.now() - since, gatherFirst, gatherMost)
      if (wasRung) await delay(gathering, undefined, { signal })
    }
  }

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      // A signal of its own, so that everything in an attempt ends with it.
      const attempt = new AbortController()
      using _ = onAbort(closing.signal, () => attempt.abort(closing.signal.reason))
      try {
        await observe(attempt.signal)
      } catch (error) {
        attempt.abort(error)
        // An abort ends the loop.
        if (!closing.signal.aborted)
          await delay(lost(error), undefined, { signal: closing.signal }).catch(() => undefined)
      }
    }
  }

  const running = run()
  return {
    /** Whether containerd answered when it was last asked. */
    get isUp(): boolean {
      return reached.reasons.length === 0
    },
    /**
     * Whether the last look is still valid: no event came since it began, nothing had changed for as long as the consequences of a
     * change may take, and events are coming in.
     */
    get isSettled(): boolean {
      return isSettled
    },
    /** Looks soon, as after an event. */
    soon: ring,
    /** Stops looking; resolves when that is done. */
    async close(): Promise<void> {
      closing.abort(new Error('the observer of containerd was closed'))
      await running
    },
  }
}

/**
 * For how long events gather now.
 *
 * @param last for how long they gathered before the last look, in milliseconds, as all of these
 * @param quiet how long there was no event after that look
 */
export function nextGathering(last: number, quiet: number, first: number, most: number): number {
  return quiet < last ? Math.min(last * 2, most) : first
}
