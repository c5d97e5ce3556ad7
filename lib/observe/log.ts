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

/**
 * A replacer that writes what JSON has no form for: errors with their causes (also those that have a `toJSON` for other
 * readers), bigints, and errors that contain themselves.
 */
function plain(): (this: unknown, key: string, value: unknown) => unknown {
  const seen = new Set<Error>()
  return function (key, value) {
    if (typeof value === 'bigint') return value.toString()
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
