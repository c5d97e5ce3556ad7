import { existsSync, readdirSync } from 'node:fs'
import process from 'node:process'
import { OPEN_FILES_LIMIT } from '../platform/runtime.ts'
import type { Metrics } from './metrics.ts'

/**
 * Seconds since 1970. It is computed once, because alerts take a change for a restart, and neither the clock nor the uptime is
 * exact.
 */
const STARTED_AT = Date.now() / 1000 - process.uptime()

const OWN_FILES = '/proc/self/fd'

/** Seconds of processor time, user and system together. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** In bytes; NaN if the process has no file descriptor left to find out. */
function memory(kind: 'rss' | 'heapUsed'): number {
  try {
    return process.memoryUsage()[kind]
  } catch {
    return Number.NaN
  }
}

/** Open file descriptors; 0 without /proc. Counting needs a descriptor itself, so if it fails the limit is reached. */
function openFiles(): number {
  try {
    return existsSync(OWN_FILES) ? readdirSync(OWN_FILES).length : 0
  } catch {
    return OPEN_FILES_LIMIT
  }
}

/** In seconds, from a loop that is hardly late to one that stands still. */
const LAG_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5]

/**
 * Registers what this process uses, with functions that Node, Deno and Bun share, and how late its event loop is.
 *
 * @param onRest called once each time that the process has come to rest
 * @returns a function that stops watching the event loop
 */
export function registerProcessMetrics(
  { gaugeFrom, counterFrom, histograms }: Metrics,
  onRest: () => void = () => undefined,
): () => void {
  counterFrom('process_cpu_seconds_total', 'Processor time that was used, in seconds.', cpuSeconds)
  gaugeFrom('process_resident_memory_bytes', 'Resident memory in bytes.', () => memory('rss'))
  gaugeFrom('process_heap_bytes', 'Memory of the JavaScript heap that is in use, in bytes.', () => memory('heapUsed'))
  gaugeFrom('process_start_time_seconds', 'When the process started, in seconds since 1970.', () => STARTED_AT)
  gaugeFrom('process_open_fds', 'Open file descriptors.', openFiles)
  gaugeFrom('process_max_fds', 'File descriptors that may be open.', () => OPEN_FILES_LIMIT)
  const lag = histograms(
    'event_loop_lag_seconds',
    'How late timers of this process fire: whatever waits for its turn waits as long.',
    LAG_BUCKETS,
    {},
  )
  return watchEventLoop((seconds) => lag.observe({}, seconds), onRest)
}

/**
 * Milliseconds between two looks at the event loop. The first is for a process that works, whose loop may be held up, and the
 * second for one at rest, whose loop is not. In between each wait is twice as long as the one before, so a process is at rest
 * after 15 s without work.
 */
const INTERVALS = [500, 8_000] as const
/** The share of a core from which on a process counts as working. */
const WORKING = 0.05

/**
 * Observes periodically by how many seconds a timer was late, which everything else was as well. It uses its own timer, because
 * `monitorEventLoopDelay` means something else on each runtime.
 *
 * @param onRest called once each time that the process has come to rest
 * @param intervals see {@link INTERVALS}
 * @param used returns the seconds of processor time that the process has used
 * @returns a function that ends the watching
 */
export function watchEventLoop(
  observe: (seconds: number) => void,
  onRest: () => void,
  [working, resting]: readonly [working: number, resting: number] = INTERVALS,
  used = cpuSeconds,
): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  const wait = (interval: number) => {
    const [since, before] = [performance.now(), used()]
    timer = setTimeout(() => {
      const ms = performance.now() - since
      observe(Math.max(ms - interval, 0) / 1000)
      const isWorking = (used() - before) * 1000 >= ms * WORKING
      const next = isWorking ? working : Math.min(interval * 2, resting)
      if (next === resting && interval < resting) onRest()
      wait(next)
    }, interval)
    timer.unref()
  }
  wait(working)
  return () => clearTimeout(timer)
}
