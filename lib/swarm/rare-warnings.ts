import { boundedLog, LONGEST_TEXT, type Logger } from '../observe/log.ts'

/** Milliseconds between two warnings of the same event. */
const INTERVAL = 60_000

/** Warns of what others can cause at any rate: once a minute of each event, and of how many others there were since. */
export function rareWarnings(log: Logger, now?: () => number): Pick<Logger, 'warn'> {
  return boundedLog(log, { burst: 1, interval: INTERVAL, leftOut: 'others', maxText: LONGEST_TEXT, now })
}
