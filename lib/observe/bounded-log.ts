import type { LogFields, Logger, LogLevel } from './log.ts'

/** Lines of one event that may come at once: enough to see what a fault does to several requests. */
const BURST = 20
/** Milliseconds until there may be one more: a flood of one event then writes some 35 MB a day. */
const INTERVAL = 1_000
/** Longest text of a field, in characters. A request may have a path of 16 KiB. */
const MAX_TEXT = 256

/**
 * A logger for lines that clients can cause. It writes at most {@link BURST} lines of an event at once and then one each
 * {@link INTERVAL}, cuts long texts, and says with the next line how many it has `left_out`.
 *
 * @param now milliseconds that never go back
 */
export function boundedLog(log: Logger, now: () => number = () => performance.now()): Logger {
  const events = new Map<string, { due: number; leftOut: number }>()
  const bounded =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}) => {
      const time = now()
      // When the next line would be due if all lines so far had come one each interval.
      const state = events.get(event) ?? { due: time, leftOut: 0 }
      events.set(event, state)
      if (state.due > time + (BURST - 1) * INTERVAL) {
        state.leftOut++
        return
      }
      state.due = Math.max(state.due, time) + INTERVAL
      const texts = Object.entries(fields).map(([name, value]) => [name, shortened(value)])
      log[level](event, { ...Object.fromEntries(texts), ...(state.leftOut > 0 ? { left_out: state.leftOut } : {}) })
      state.leftOut = 0
    }
  return { debug: bounded('debug'), info: bounded('info'), warn: bounded('warn'), error: bounded('error') }
}

function shortened(value: unknown): unknown {
  return typeof value === 'string' && value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT)}...` : value
}
