import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { type Mirror, startMirror } from '../mirror/mirror.ts'
import { createLogger, type Logger } from '../observe/log.ts'
import { readSettings } from '../settings/read.ts'
import type { Command } from './command.ts'
import { programText } from './program.ts'

/** Milliseconds between looks at whether the mirror does its work. */
const READINESS_INTERVAL = 100

/** Runs the mirror until it is asked to stop. */
export const serve: Command = {
  name: 'serve',
  summary: 'run the mirror (the default)',
  async run(context) {
    const { args, environment, report, stop } = context
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const settings = readSettings({ flags: args, environment, readFile })
    const log = createLogger(report, settings['log-level'])
    const mirror = await startMirror(settings, log, { program: programText(context) })
    try {
      await followReadiness(mirror, log, stop)
    } finally {
      await mirror.close()
    }
  },
}

/**
 * Logs when the mirror becomes ready, and when it stops being so, until the signal aborts.
 *
 * @throws {ConfigurationError} when the node turns out not to be configured for it, at its start
 */
async function followReadiness(mirror: Mirror, log: Logger, signal: AbortSignal): Promise<void> {
  let last: string | undefined
  while (!signal.aborted) {
    if (mirror.failure !== undefined) throw mirror.failure
    const { reasons } = mirror.readiness
    const reason = reasons.join('; ')
    if (reason !== last) {
      if (reasons.length === 0) log.info('ready')
      else log.info('not ready', { reasons })
      last = reason
    }
    // Rejects only when the signal aborts, which is what ends the loop.
    await delay(READINESS_INTERVAL, undefined, { signal }).catch(() => undefined)
  }
}
