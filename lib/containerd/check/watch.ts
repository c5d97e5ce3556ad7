import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../observe/log.ts'
import type { Readiness } from '../../observe/readiness.ts'
import { ContainerdError, isLasting } from '../client/error.ts'
import { differs, type Looked, lookAgain } from './looked.ts'
import type { Report } from './report.ts'
import type { CheckResult } from './run.ts'

/**
 * How often files and containerd are looked at for changes, in milliseconds. They are polled and not watched: a file that
 * is mounted, or that is replaced by a rename or a link, as configuration is, tells its watchers nothing. A look is a few
 * `stat` and one call.
 */
export const POLL_INTERVAL = 5_000
/** Least time between two checks, in milliseconds: each is a pull, however often somebody writes a file. */
export const CHECK_INTERVAL = 10_000
/** Time after which a check that found errors is made again although nothing has changed that is watched, in milliseconds. */
export const FAILED_INTERVAL = 60_000
/** Wait before containerd is asked again while it is not there yet, in milliseconds. */
export const AWAY_INTERVAL = 500
/** How often a check is made again at once because containerd went away, or was not done starting, before its result counts. */
export const INTERRUPTED_LIMIT = 20

/** How often in a poll's interval it is looked whether files still change, before that is checked which they have become. */
const SETTLE_LOOKS = 5

export interface CheckWatchDependencies {
  readonly run: (signal: AbortSignal) => Promise<CheckResult>
  /** Tells one containerd from another, or from itself before a restart; throws a ContainerdError if none answers. */
  readonly identify: (signal: AbortSignal) => Promise<string>
  /** Told of every result that counts. */
  readonly onReport: (report: Report) => void
  readonly readiness: Readiness
  readonly log: Logger
}

export interface CheckWatchOptions {
  readonly pollInterval?: number
  readonly checkInterval?: number
  readonly failedInterval?: number
  readonly awayInterval?: number
}

export interface CheckWatch {
  /** The last result; missing before the first one. */
  readonly report: Report | undefined
  close(): Promise<void>
}

/**
 * Checks as soon as containerd answers, and again whenever something has changed that the result depends on: a file that
 * was read, the names in a directory, containerd's process or version.
 */
export function createCheckWatch(dependencies: CheckWatchDependencies, options: CheckWatchOptions = {}): CheckWatch {
  const { run, identify, onReport, readiness, log } = dependencies
  const { pollInterval = POLL_INTERVAL, checkInterval = CHECK_INTERVAL } = options
  const { failedInterval = FAILED_INTERVAL, awayInterval = AWAY_INTERVAL } = options
  const closing = new AbortController()
  const { signal } = closing
  const configured = readiness.wait('the configuration of containerd is not checked yet')
  let report: Report | undefined

  async function check(): Promise<CheckResult> {
    for (let attempt = 1; ; attempt++) {
      const result = await run(signal)
      if (!result.interrupted || attempt === INTERRUPTED_LIMIT) return result
      log.debug('check interrupted', { attempt })
      await delay(awayInterval, undefined, { signal })
      await identified()
    }
  }

  /** A mistake of this program, or a machine that fails, is told and tried again: it must not end the watching. */
  async function checkedAtLast(): Promise<CheckResult> {
    for (;;) {
      try {
        return await check()
      } catch (error) {
        signal.throwIfAborted()
        const reason = error instanceof Error ? error.message : String(error)
        configured.for(`the configuration could not be checked: ${reason}`)
        log.error('the configuration could not be checked', { error })
      }
      await delay(failedInterval, undefined, { signal })
    }
  }

  /** Waits for containerd, at its first start and after every other one. */
  async function identified(): Promise<string> {
    for (;;) {
      try {
        return await identify(signal)
      } catch (error) {
        signal.throwIfAborted()
        if (!(error instanceof ContainerdError)) throw error
        if (isLasting(error)) return error.code
        if (report === undefined) configured.for(`the configuration is not checked yet: ${error.message}`)
      }
      await delay(awayInterval, undefined, { signal })
    }
  }

  /** Returns when something is different from what the result was made of. */
  async function changed(looked: Looked, identity: string): Promise<string> {
    const since = performance.now()
    for (;;) {
      await delay(pollInterval, undefined, { signal })
      const now = await identified()
      if (now !== identity) return 'containerd was started again'
      const found = await lookAgain(looked)
      if (differs(looked, found)) return await settled(found)
      if (report?.outcome === 'failed' && performance.now() - since >= failedInterval) return 'it failed before'
    }
  }

  /** Waits until nobody writes any more, or for some time. */
  async function settled(first: Looked): Promise<string> {
    let last = first
    for (let look = 1; look <= SETTLE_LOOKS; look++) {
      await delay(pollInterval / SETTLE_LOOKS, undefined, { signal })
      const found = await lookAgain(last)
      if (!differs(last, found)) break
      last = found
    }
    return 'files have changed'
  }

  async function watch(): Promise<void> {
    for (;;) {
      // Before the check, so that what changes meanwhile is seen afterwards.
      const identity = await identified()
      const result = await checkedAtLast()
      report = result.report
      const errors = report.findings.filter(({ severity }) => severity === 'error')
      configured.for(...errors.map(({ id, seen }) => `check ${id}: ${seen}`))
      onReport(report)
      const checkedAt = performance.now()
      const reason = await changed(result.looked, identity)
      const early = checkInterval - (performance.now() - checkedAt)
      if (early > 0) await delay(early, undefined, { signal })
      log.info('checking again', { reason })
    }
  }

  const watching = watch().catch((error) => {
    if (signal.aborted) return
    const reason = 'the configuration is no longer checked'
    configured.for(reason)
    log.error(reason, { error })
  })
  return {
    get report() {
      return report
    },
    async close() {
      closing.abort(new Error('the check was closed'))
      await watching
    },
  }
}
