import type { Logger } from '../../observe/log.ts'
import { Readiness } from '../../observe/readiness.ts'
import type { ContentStore } from '../../store/store.ts'
import { type Bell, createBell, pause } from './bell.ts'

/**
 * Time between two looks at everything, in milliseconds, when nothing is told: garbage collection removes content
 * without an event. Each wait is up to a tenth shorter or longer, so that the nodes of a cluster do not beat in time.
 */
export const RECONCILE_INTERVAL = 60_000

/**
 * Waits between the looks that follow a change, in milliseconds, until nothing changes any more: garbage collection
 * runs about a second after an image was removed, and unpacking may discard layers some time after a pull.
 */
export const SETTLE_DELAYS: readonly number[] = [1000, 2000, 4000, 8000]

/**
 * Time that events are gathered before a look, in milliseconds, since a pull by CRI makes three names and labels them.
 * Short at first, so that others find soon what a pull has brought; twice as long each time that more events have come
 * meanwhile, so that looks (some 15 ms with 100 images) take a small part of a processor however much happens.
 */
export const GATHER_FIRST = 25
export const GATHER_MOST = 400

/** First and longest wait before containerd is tried again, in milliseconds; it doubles in between. A restart takes a second. */
export const RETRY_FIRST = 250
export const RETRY_MOST = 10_000

export interface ObserverOptions {
  readonly reconcileInterval?: number
  readonly settleDelays?: readonly number[]
  readonly gatherFirst?: number
  readonly gatherMost?: number
  readonly retryFirst?: number
  readonly retryMost?: number
  /** From 0 up to 1, for jitter. */
  readonly random?: () => number
}

export interface ObserverDependencies {
  /** Resolves when nothing that happens from then on is missed; the stream ends or throws when that is over. */
  subscribe(signal: AbortSignal): Promise<AsyncIterable<unknown>>
  /** Looks at everything; true if something may have changed. */
  reconcile(signal: AbortSignal): Promise<boolean>
  readonly log: Logger
  readonly readiness?: Readiness | undefined
}

/** Keeps looking: at first, after each event, at intervals, and again after containerd was away. */
export interface Observer {
  readonly health: ContentStore['health']
  /** Looks soon, as after an event. */
  soon(): void
  /** Stops it; resolves when it has. */
  close(): Promise<void>
}

/** Starts to observe. What fails is tried again for ever, at growing intervals; {@link Observer.health} says so. */
export function createObserver(dependencies: ObserverDependencies, options: ObserverOptions = {}): Observer {
  const { subscribe, reconcile, log, readiness = new Readiness() } = dependencies
  const { reconcileInterval = RECONCILE_INTERVAL, settleDelays = SETTLE_DELAYS } = options
  const { gatherFirst = GATHER_FIRST, gatherMost = GATHER_MOST } = options
  const { retryFirst = RETRY_FIRST, retryMost = RETRY_MOST, random = Math.random } = options
  const closing = new AbortController()
  const reached = readiness.wait('containerd has not answered yet')
  let failures = 0
  let ring: () => void = () => undefined

  function found(): void {
    if (reached.reasons.length > 0) log.info('containerd answers', { failures })
    reached.over()
    failures = 0
  }

  /** Gives the time to wait before the next attempt, in milliseconds. */
  function lost(error: unknown): number {
    const delay = Math.min(retryMost, retryFirst * 2 ** failures) * (0.5 + random() / 2)
    const fields = { error, failures, retryInMs: Math.round(delay) }
    // Told once: what follows is the same until containerd answers.
    if (failures === 0) log.warn('containerd lost', fields)
    else log.debug('containerd still lost', fields)
    reached.for(error instanceof Error ? error.message : String(error))
    failures += 1
    return delay
  }

  /** One subscription and the looks under it, until something throws. */
  async function observe(signal: AbortSignal): Promise<never> {
    const bell = createBell()
    ring = () => bell.ring()
    void listen(await subscribe(signal), bell)
    let gathering = gatherFirst
    for (let calm = 0; ; ) {
      bell.clear()
      const changed = await reconcile(signal)
      found()
      if (changed) calm = 0
      const interval = reconcileInterval * (0.9 + random() / 5)
      const since = performance.now()
      const rung = await bell.wait(Math.min(settleDelays[calm] ?? interval, interval), signal)
      calm = rung ? 0 : calm + 1
      gathering = nextGathering(gathering, performance.now() - since, gatherFirst, gatherMost)
      if (rung) await pause(gathering, signal)
    }
  }

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      // Of its own for each attempt, so that what one has begun ends with it.
      const attempt = new AbortController()
      const end = () => attempt.abort(closing.signal.reason)
      closing.signal.addEventListener('abort', end)
      try {
        await observe(attempt.signal).finally(end)
      } catch (error) {
        if (closing.signal.aborted) return
        await pause(lost(error), closing.signal)
      } finally {
        closing.signal.removeEventListener('abort', end)
      }
    }
  }

  const running = run()
  return {
    get health(): ContentStore['health'] {
      const [reason] = reached.reasons
      if (reason === undefined) return { ok: true }
      return { ok: false, reason }
    },
    soon: () => ring(),
    async close() {
      closing.abort(new Error('the observer of containerd was closed'))
      await running
    },
  }
}

/**
 * For how long events are gathered now.
 *
 * @param last for how long they were gathered before the last look, in milliseconds, as all of these
 * @param quiet how long there was no event after that look
 */
export function nextGathering(last: number, quiet: number, first: number, most: number): number {
  return quiet < last ? Math.min(last * 2, most) : first
}

/** Rings for each event, and fails with what ends the stream. */
async function listen(events: AsyncIterable<unknown>, bell: Bell): Promise<void> {
  try {
    for await (const _event of events) bell.ring()
    bell.fail(new Error('the stream of events ended'))
  } catch (error) {
    bell.fail(error)
  }
}
