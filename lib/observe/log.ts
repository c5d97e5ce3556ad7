/** From the least important to the most important. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export type LogFields = Readonly<Record<string, unknown>>

/** Structured log: an event in lower-case words, and fields. One JSON object per line. */
export interface Logger {
  debug(event: string, fields?: LogFields): void
  info(event: string, fields?: LogFields): void
  warn(event: string, fields?: LogFields): void
  error(event: string, fields?: LogFields): void
}

/**
 * Makes a logger that passes complete lines, with their line feed, to `write`.
 *
 * @param level the least important level that is written
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
 * Characters that JSON does not escape although a terminal or a line reader may obey them: control characters beyond ASCII (one
 * of them begins escape sequences like ESC), line and paragraph separators, and characters that change the direction of text.
 */
const INVISIBLE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** Escapes characters that must not reach a terminal, in JSON's notation. */
export function escaped(text: string, characters: RegExp): string {
  return text.replace(characters, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** Longest text in a line, in characters, whatever its origin. Our own longest texts are remedies. */
export const LONGEST_TEXT = 4_096

/**
 * A replacer that cuts long texts, and writes values for which JSON has no form: bigints, and errors with their causes, even if
 * they have their own `toJSON` or contain themselves.
 */
function plain(): (this: unknown, key: string, value: unknown) => unknown {
  const seen = new Set<Error>()
  return function (key, value) {
    if (typeof value === 'bigint') return value.toString()
    if (typeof value === 'string') return shortened(value, LONGEST_TEXT)
    // `value` may already be the result of an error's own `toJSON`.
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

const BOUNDS = {
  /** Lines of one event that may come at once: enough to see how a fault affects several requests. */
  burst: 20,
  /** Milliseconds until one more line may come: a flood of one event then writes some 35 MB a day. */
  interval: 1_000,
  /** Longest text of a field, in characters, because a request may have a path of 16 KiB. */
  maxText: 256,
  /** Milliseconds that never go back. */
  now: () => performance.now(),
}

/**
 * A logger for lines that clients can cause. It writes at most `burst` lines of an event at once, and then one per `interval`.
 * It cuts long texts, and its next line says how many lines it has left out.
 */
export function boundedLog(log: Logger, options: Partial<typeof BOUNDS> = {}): Logger {
  const { burst, interval, maxText, now } = { ...BOUNDS, ...options }
  const events = new Map<string, { due: number; leftOut: number }>()
  const bounded =
    (level: LogLevel) =>
    (event: string, { left_out: before = 0, ...fields }: LogFields = {}) => {
      const time = now()
      // `due`: when the next line would be due if all lines so far had come one per interval.
      const state = events.get(event) ?? { due: time, leftOut: 0 }
      events.set(event, state)
      // Its line may come from another bounded logger, which has left out some already.
      state.leftOut += Number(before)
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

/**
 * Warnings that others can cause at any rate. It writes each event at most once a minute, with the number of lines left out.
 */
export function rareWarnings(log: Logger, now = BOUNDS.now): Pick<Logger, 'warn'> {
  return boundedLog(log, { burst: 1, interval: WARNING_INTERVAL, maxText: LONGEST_TEXT, now })
}

/** Cuts a text that is too long; returns any other value as it is. */
function shortened(value: unknown, maxText: number): unknown {
  return typeof value === 'string' && value.length > maxText ? `${value.slice(0, maxText)}...` : value
}
