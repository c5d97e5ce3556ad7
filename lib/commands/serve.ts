import { type Mirror, startMirror } from '../mirror/mirror.ts'
import { showsPage } from '../mirror/page.ts'
import { createLogger, escaped, type Logger } from '../observe/log.ts'
import { type Look, type Paint, paintFor, plain } from '../observe/paint.ts'
import type { Readiness } from '../observe/readiness.ts'
import { orAborted } from '../platform/abort.ts'
import { readCommandLine } from '../settings/read.ts'
import { hostOf, type Settings } from '../settings/settings.ts'
import { type Command, programText } from './command.ts'
import { ALL_SETTINGS } from './help.ts'

/** Runs the mirror until it is asked to stop. */
export const serve: Command = {
  name: 'serve',
  summary: 'run the mirror (the default)',
  example: '--swarm-key-file swarm.key --bootstrap 10.0.0.1:5001,10.0.0.2:5001',
  settings: ALL_SETTINGS,
  async run(context) {
    const { args, environment, report, stop, terminal } = context
    const { settings, warnings } = readCommandLine({ flags: args, environment }, {})
    const paint = paintFor(terminal.errors, environment)
    const log = createLogger(
      terminal.errors ? (line) => report(readableLine(line, paint)) : report,
      settings['log-level'],
    )
    for (const problem of warnings) log.warn('insecure setting', { problem })
    const mirror = await startMirror(settings, log, programText(context))
    if (terminal.errors) report(`\n${paint('green', greeting(mirror, settings))}\n\n`)
    const unfollow = logReadiness(mirror.readiness, log)
    try {
      const failure = await orAborted(mirror.failed, stop)
      if (failure !== undefined) throw failure
    } finally {
      unfollow()
      await mirror.close()
    }
  },
}

/** Tells a person where to look at a mirror that has just started. */
function greeting({ admin }: Mirror, settings: Settings): string {
  const at = `http://${hostOf(admin.host)}:${admin.port}`
  const where = showsPage(settings) ? `Its page: ${at}/` : `It has no page; its state: ${at}/readyz`
  return `This mirror is running. ${where} (Ctrl+C stops it)`
}

/** Logs whether the mirror is ready, now and whenever that or the reasons change, until the returned function is called. */
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

const LOOKS: Readonly<Record<string, Look>> = { debug: 'dim', info: 'bold', warn: 'yellow', error: 'red' }

/**
 * A line of the log for a person at a terminal: time of day, level, event, and the fields as `name=value`. Other lines stay
 * unchanged.
 *
 * @param line with its line feed
 */
export function readableLine(line: string, paint: Paint = plain): string {
  if (!line.startsWith('{"time":')) return line
  const { time, level, event, ...fields } = JSON.parse(line) as Record<string, unknown>
  const clock = new Date(String(time)).toTimeString().slice(0, 8)
  const told = Object.entries(fields).map(([name, value]) => `${paint('dim', `${name}=`)}${shown(value)}`)
  const head = [paint('dim', clock), String(level).padEnd(5), paint(LOOKS[String(level)] ?? 'bold', shown(event))]
  return `${[...head, ...told].join('  ')}\n`
}

/**
 * A value without quotation marks. An error is shown by its message, and any other object as `{...}`, because the JSON
 * log has all parts. Characters that a terminal could obey stay escaped.
 */
function shown(value: unknown): string {
  if (Array.isArray(value)) return value.map(shown).join(', ')
  if (typeof value === 'object' && value !== null) return 'message' in value ? shown(value.message) : '{...}'
  const text = String(value)
  return escaped(text, /[\p{Cc}\p{Cf}\u2028\u2029]/gu)
}
