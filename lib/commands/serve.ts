import { startMirror } from '../mirror/mirror.ts'
import { createLogger, type Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import { onAbort } from '../platform/abort.ts'
import { readCommandLine } from '../settings/read.ts'
import { type Command, programText } from './command.ts'
import { ALL_SETTINGS } from './help.ts'

/** Runs the mirror until it is asked to stop. */
export const serve: Command = {
  name: 'serve',
  summary: 'run the mirror (the default)',
  example: '--swarm-key-file swarm.key --bootstrap 10.0.0.1:5001,10.0.0.2:5001',
  settings: ALL_SETTINGS,
  async run(context) {
    const { args, environment, report, stop } = context
    const { settings, warnings } = readCommandLine({ flags: args, environment }, {})
    const log = createLogger(report, settings['log-level'])
    for (const problem of warnings) log.warn('insecure setting', { problem })
    const mirror = await startMirror(settings, log, programText(context))
    const unfollow = logReadiness(mirror.readiness, log)
    try {
      const ended = Promise.withResolvers<undefined>()
      using _ = onAbort(stop, () => ended.resolve(undefined))
      const failure = await Promise.race([mirror.failed, ended.promise])
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
    const { reasons, notes } = readiness
    const beside = notes.length > 0 ? { notes } : {}
    if (reasons.length === 0) log.info('ready', beside)
    else log.info('not ready', { reasons, ...beside })
  }
  tell()
  return readiness.onChange(tell)
}
