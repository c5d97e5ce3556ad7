/** From the least important to the most. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export type LogFields = Readonly<Record<string, unknown>>

/** Structured log: an event name in lower-case words, and fields. One JSON object a line. */
export interface Logger {
  debug(event: string, fields?: LogFields): void
  info(event: string, fields?: LogFields): void
  warn(event: string, fields?: LogFields): void
  error(event: string, fields?: LogFields): void
}

/**
 * Makes a logger that hands finished lines (with their line feed) to `write`.
 *
 * @param level the least important level that is still written
 */
export function createLogger(
  write: (line: string) => void,
  level: LogLevel,
  now: () => Date = () => new Date(),
): Logger {
  const least = LOG_LEVELS.indexOf(level)
  const at = (own: LogLevel) => {
    if (LOG_LEVELS.indexOf(own) < least) return () => undefined
    return (event: string, fields: LogFields = {}) =>
      write(
        `${escaped(JSON.stringify({ time: now().toISOString(), level: own, event, ...fields }, plain()), INVISIBLE)}\n`,
      )
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** Writes nothing. */
export const silentLogger: Logger = createLogger(() => undefined, 'error')

/**
 * Characters that JSON leaves as they are although a terminal or a reader of lines may obey them: control characters beyond
 * ASCII (one of them begins escape sequences as ESC does), line and paragraph separators, and those that change the direction
 * of text.
 */
const INVISIBLE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** A text with some of its characters, which must not reach a terminal, written as JSON does. */
export function escaped(text: string, characters: RegExp): string {
  return text.replace(characters, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Longest text in a line, in characters, whoever it comes from. The longest that we write is a remedy. */
export const LONGEST_TEXT = 4_096

/**
 * A replacer that cuts texts that are too long, and writes what JSON has no form for: errors with their causes (also those that
 * have a `toJSON` for other readers), bigints, and errors that contain themselves.
 */
function plain(): (this: unknown, key: string, value: unknown) => unknown {
  const seen = new Set<Error>()
  return function (key, value) {
    if (typeof value === 'bigint') return value.toString()
    if (typeof value === 'string') return shortened(value, LONGEST_TEXT)
    // `value` is what an error's own toJSON has made of it.
    const error = (this as Record<string, unknown>)[key]
    if (!(error instanceof Error)) return value
    if (seen.has(error)) return `${error.name} as above`
    seen.add(error)
    const code = 'code' in error && error.code !== undefined ? { code: error.code } : {}
    const cause = error.cause === undefined ? {} : { cause: error.cause }
    const errors = error instanceof AggregateError ? { errors: error.errors } : {}
    return { name: error.name, message: error.message, ...code, ...cause, ...errors }
  }
}

/** Lines of one event that may come at once: enough to see what a fault does to several requests. */
const BURST = 20
/** Milliseconds until there may be one more: a flood of one event then writes some 35 MB a day. */
const INTERVAL = 1_000
/** Longest text of a field, in characters. A request may have a path of 16 KiB. */
const MAX_TEXT = 256

export interface BoundedLogOptions {
  /** Lines of one event that may come at once. */
  readonly burst?: number
  /** Milliseconds until there may be one more. */
  readonly interval?: number
  /** Longest text of a field, in characters. */
  readonly maxText?: number
  /** Milliseconds that never go back. */
  readonly now?: (() => number) | undefined
}

/**
 * A logger for lines that clients can cause. It writes at most `burst` lines of an event at once and then one each
 * `interval`, cuts long texts, and says with the next line how many it has left out.
 */
export function boundedLog(
  log: Logger,
  { burst = BURST, interval = INTERVAL, maxText = MAX_TEXT, now = () => performance.now() }: BoundedLogOptions = {},
): Logger {
  const events = new Map<string, { due: number; leftOut: number }>()
  const bounded =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}) => {
      const time = now()
      // When the next line would be due if all lines so far had come one each interval.
      const state = events.get(event) ?? { due: time, leftOut: 0 }
      events.set(event, state)
      if (state.due > time + (burst - 1) * interval) {
        state.leftOut++
        return
      }
      state.due = Math.max(state.due, time) + interval
      const texts = Object.entries(fields).map(([name, value]) => [name, shortened(value, maxText)])
      log[level](event, { ...Object.fromEntries(texts), ...(state.leftOut > 0 ? { left_out: state.leftOut } : {}) })
      state.leftOut = 0
    }
  return { debug: bounded('debug'), info: bounded('info'), warn: bounded('warn'), error: bounded('error') }
}

/** Milliseconds between two warnings of the same event. */
const WARNING_INTERVAL = 60_000

/** Warns of what others can cause at any rate: once a minute of each event, and of how many others there were since. */
export function rareWarnings(log: Logger, now?: () => number): Pick<Logger, 'warn'> {
  return boundedLog(log, { burst: 1, interval: WARNING_INTERVAL, maxText: LONGEST_TEXT, now })
}

/** A text that is not too long; any other value as it is. */
function shortened(value: unknown, maxText: number): unknown {
  return typeof value === 'string' && value.length > maxText ? `${value.slice(0, maxText)}...` : value
}
