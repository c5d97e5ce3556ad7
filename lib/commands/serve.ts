import { readFileSync } from 'node:fs'
import { startMirror } from '../mirror/mirror.ts'
import { createLogger, type Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import { readSettings } from '../settings/read.ts'
import type { Command } from './command.ts'
import { programText } from './program.ts'

/** Runs the mirror until it is asked to stop. */
export const serve: Command = {
  name: 'serve',
  summary: 'run the mirror (the default)',
  async run(context) {
    const { args, environment, report, stop } = context
    const readFile = (path: string) => readFileSync(path, 'utf8')
    const settings = readSettings({ flags: args, environment, readFile })
    const log = createLogger(report, settings['log-level'])
    const mirror = await startMirror(settings, log, programText(context))
    const unfollow = logReadiness(mirror.readiness, log)
    try {
      const failure = await Promise.race([mirror.failed, aborted(stop)])
      if (failure !== undefined) throw failure
    } finally {
      unfollow()
      await mirror.close()
    }
  },
}

/** Logs whether the mirror is ready, now and whenever that or the reasons change, until what it returns is called. */
function logReadiness(readiness: Readiness, log: Logger): () => void {
  const tell = () => {
    const { reasons } = readiness
    if (reasons.length === 0) log.info('ready')
    else log.info('not ready', { reasons })
  }
  tell()
  return readiness.onChange(tell)
}

async function aborted(signal: AbortSignal): Promise<undefined> {
  if (signal.aborted) return
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}
