import { existsSync, readdirSync } from 'node:fs'
import process from 'node:process'
import { OPEN_FILES_LIMIT, runtimeName } from '../platform/runtime.ts'
import type { Metrics } from './metrics.ts'

/** Seconds since 1970. Read once: alerts find restarts by its changes, and neither the clock nor the uptime is exact. */
const STARTED_AT = Date.now() / 1000 - process.uptime()

const OWN_FILES = '/proc/self/fd'

/** Seconds of processor time, of the user and of the system together. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** Bytes; not a number when the process cannot tell, for lack of a file descriptor. */
function memory(kind: 'rss' | 'heapUsed'): number {
  try {
    return process.memoryUsage()[kind]
  } catch {
    return Number.NaN
  }
}

/** Open file descriptors; 0 where there is no /proc. Counting them takes one: where none is left, the limit is reached. */
function openFiles(): number {
  try {
    return existsSync(OWN_FILES) ? readdirSync(OWN_FILES).length : 0
  } catch {
    return OPEN_FILES_LIMIT
  }
}

/** From a loop that is hardly late to one that stands still, in seconds. */
const LAG_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5]

/**
 * Registers what this process uses, from what Node, Deno and Bun all have, and how late its event loop is.
 *
 * @param onRest called once each time that the process has come to rest
 * @returns what ends the watching of the event loop
 */
export function registerProcessMetrics(
  { looked, lookedCounter, histogram }: Metrics,
  onRest: () => void = () => undefined,
): () => void {
  lookedCounter('process_cpu_seconds_total', 'Processor time that was used, in seconds.', cpuSeconds)
  looked('process_resident_memory_bytes', 'Resident memory in bytes.', () => memory('rss'))
  looked('process_heap_bytes', 'Memory of the JavaScript heap that is in use, in bytes.', () => memory('heapUsed'))
  looked('process_start_time_seconds', 'When the process started, in seconds since 1970.', () => STARTED_AT)
  looked('process_open_fds', 'Open file descriptors.', openFiles)
  looked('process_max_fds', 'File descriptors that may be open.', () => OPEN_FILES_LIMIT)
  const lag = histogram(
    'event_loop_lag_seconds',
    'How late timers of this process fire: whatever waits for its turn waits as long.',
    LAG_BUCKETS,
  )
  return watchEventLoop((seconds) => lag.observe(seconds), onRest)
}

/**
 * Milliseconds between two looks at the event loop: while the process works, often enough to see a loop that is held up; and at
 * most, while it rests and nothing can hold the loop up. In between each wait is twice as long as the one before: a process rests
 * that has not worked for 15 s.
 */
const INTERVALS = [500, 8_000] as const
/** The part of a core from which on a process works. */
const WORKING = 0.05

/**
 * Observes again and again by how many seconds a timer was late, which is how long everything else has to wait as well. With
 * a timer of its own, because `monitorEventLoopDelay` means something else on each runtime.
 *
 * @param onRest called once each time that the process has come to rest
 * @param intervals milliseconds between two looks: see INTERVALS
 * @param used seconds of processor time that the process has used
 * @returns what ends that
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

/** Version of the runtime that runs now. */
export function runtimeVersion(): string {
  return process.versions[runtimeName] ?? 'unknown'
}
