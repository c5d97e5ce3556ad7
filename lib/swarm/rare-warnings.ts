import type { LogFields, Logger } from '../observe/log.ts'

/** Milliseconds between two warnings of the same event. */
const INTERVAL = 60_000

/** Warns of what others can cause at any rate: once a minute of each event, and of how many others there were since. */
export class RareWarnings {
  readonly #log: Logger
  readonly #now: () => number
  /** When the last warning was given, and how often the event has come since. */
  readonly #warned = new Map<string, { at: number; others: number }>()

  constructor(log: Logger, now: () => number = () => performance.now()) {
    this.#log = log
    this.#now = now
  }

  warn(event: string, fields: LogFields): void {
    const warned = this.#warned.get(event)
    const now = this.#now()
    if (warned !== undefined && now - warned.at < INTERVAL) {
      warned.others++
      return
    }
    const others = warned?.others ?? 0
    this.#log.warn(event, others > 0 ? { ...fields, others } : fields)
    this.#warned.set(event, { at: now, others: 0 })
  }
}
