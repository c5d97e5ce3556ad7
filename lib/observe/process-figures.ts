import { existsSync, readdirSync, readFileSync } from 'node:fs'
import process from 'node:process'
import { runtimeName } from '../runtime/name.ts'

/**
 * What this process uses. From what Node, Deno and Bun all have, since prom-client's own figures are Node's: on Deno and Bun
 * it renders them, but some are made up (an event loop that is never busy).
 */
export const processFigures = {
  /** Seconds of processor time, of the user and of the system together. */
  cpuSeconds(): number {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  },
  residentBytes: (): number => process.memoryUsage().rss,
  heapUsedBytes: (): number => process.memoryUsage().heapUsed,
  /** Seconds since 1970. */
  startTime: (): number => STARTED_AT,
  /** Open file descriptors; 0 where there is no /proc. */
  openFiles: (): number => (existsSync(OWN_FILES) ? readdirSync(OWN_FILES).length : 0),
  /** How many may be open; 0 where there is no /proc, or no limit. */
  mostOpenFiles(): number {
    if (!existsSync(OWN_LIMITS)) return 0
    const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync(OWN_LIMITS, 'utf8')) ?? []
    return Number(soft ?? 0)
  },
} as const

/** Once and for all: alerts count its changes to find processes that restart, and neither clock nor uptime is exact. */
const STARTED_AT = Date.now() / 1000 - process.uptime()

const OWN_FILES = '/proc/self/fd'
const OWN_LIMITS = '/proc/self/limits'

/** Version of the runtime that runs now. */
export function runtimeVersion(): string {
  return process.versions[runtimeName] ?? 'unknown'
}
