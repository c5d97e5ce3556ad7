/** From the most to the least that is told. */
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
      write(`${JSON.stringify({ time: now().toISOString(), level: own, event, ...fields }, plain)}\n`)
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

/** A logger for parts whose log nobody reads. */
export const silentLogger: Logger = createLogger(() => undefined, 'error')

/** Makes what JSON cannot say sayable: errors with their causes, bigints. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (!(value instanceof Error)) return value
  const code = 'code' in value && value.code !== undefined ? { code: value.code } : {}
  const cause = value.cause === undefined ? {} : { cause: value.cause }
  return { name: value.name, message: value.message, ...code, ...cause }
}
