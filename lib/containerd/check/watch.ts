import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../observe/log.ts'
import type { Readiness } from '../../observe/readiness.ts'
import { BEAT, nextBeat, systemClock } from '../../platform/clock.ts'
import { ContainerdError, isLasting } from '../client/error.ts'
import { hasChanged, type Looked } from '../hosts/files.ts'
import type { Report } from './report.ts'
import type { CheckResult } from './run.ts'

/** All in milliseconds. */
const INTERVALS = {
  // Between two looks, each a few `stat` and one call, and then until the next beat. Files are polled, because watching misses
  // files that are mounted, or replaced by a rename or a link, as configuration often is.
  poll: 5_000,
  // The shortest time between two checks, each of which is a pull, however often somebody writes a file.
  check: 10_000,
  // After this time a check that found errors runs again although no watched file has changed.
  failed: 60_000,
  // Between two calls to a containerd that does not answer yet.
  away: 500,
}
/** How often to repeat a check at once because containerd went away or was still starting, before the result counts anyway. */
const INTERRUPTED_LIMIT = 20
/** The part of a poll interval that changes get to become complete before they are checked, as a divisor. */
const SETTLING = 5

export interface CheckWatchDependencies {
  readonly run: (signal: AbortSignal) => Promise<CheckResult>
  /** Distinguishes containerds, also one from itself before a restart. Throws a ContainerdError if none answers. */
  readonly identify: (signal: AbortSignal) => Promise<string>
  /** Called with every result that counts. */
  readonly onReport: (report: Report) => void
  readonly readiness: Readiness
  readonly log: Logger
}

/**
 * Checks as soon as containerd answers, and again whenever something changes on which the result depends: a file, the names in a
 * directory, containerd's process or version.
 */
export function createCheckWatch(dependencies: CheckWatchDependencies, intervals = INTERVALS) {
  const { run, identify, onReport, readiness, log } = dependencies
  const closing = new AbortController()
  const { signal } = closing
  const configured = readiness.wait('the configuration of containerd is not checked yet')
  let report: Report | undefined
  const pause = (ms: number) => delay(ms, undefined, { signal })

  /** Returns a result that counts. If a check itself fails, logs that and tries again: it must not end the watching. */
  async function checked(): Promise<CheckResult> {
    for (let attempt = 1; ; attempt++) {
      try {
        const result = await run(signal)
        if (!result.interrupted || attempt >= INTERRUPTED_LIMIT) return result
        log.debug('check interrupted', { attempt })
        await pause(intervals.away)
        await identified()
      } catch (error) {
        signal.throwIfAborted()
        configured.for(`the configuration could not be checked: ${error instanceof Error ? error.message : error}`)
        log.error('the configuration could not be checked', { error })
        await pause(intervals.failed)
      }
    }
  }

  /** Waits for containerd at every start. */
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
      await pause(intervals.away)
    }
  }

  /** Returns the reason when something has changed since the result. */
  async function changed(looked: Looked, identity: string): Promise<string> {
    const since = performance.now()
    for (;;) {
      const now = systemClock.now()
      await pause(nextBeat(systemClock, now + intervals.poll, Math.min(BEAT, intervals.poll)) - now)
      if ((await identified()) !== identity) return 'containerd was started again'
      if (hasChanged(looked)) {
        // Whoever changes one file may be about to change others.
        await pause(intervals.poll / SETTLING)
        return 'files have changed'
      }
      if (report?.outcome === 'failed' && performance.now() - since >= intervals.failed) return 'it failed before'
    }
  }

  async function watch(): Promise<void> {
    for (;;) {
      // Before the check, so that changes during the check are noticed afterwards.
      const identity = await identified()
      const result = await checked()
      const checkedAt = performance.now()
      report = result.report
      const errors = report.findings.filter(({ severity }) => severity === 'error')
      configured.for(...errors.map(({ id, seen }) => `check ${id}: ${seen}`))
      onReport(report)
      const reason = await changed(result.looked, identity)
      await pause(Math.max(0, checkedAt + intervals.check - performance.now()))
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
    /** The last result; missing before the first one. */
    get report(): Report | undefined {
      return report
    },
    async close(): Promise<void> {
      closing.abort(new Error('the check was closed'))
      await watching
    },
  }
}
