import type { Clock } from '../platform/clock.ts'

/** How many parts a wait has, and the shortest part, in milliseconds. */
const PARTS = 8
const LEAST_PART = 10
/** How many late parts may be ignored, so that a wait ends even if every part is late. */
const MOST_LATE = 2 * PARTS

/**
 * A clock that counts only time in which this process could work. If a process had no processor or too much to do, its timers
 * fire before it reads bytes that have arrived meanwhile, and peers that answered in time would look late. So this clock waits
 * in parts, between which the process reads everything that has come, and ignores a part that took more than twice as long as
 * it should, or as the shortest part.
 */
export const patientClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const parts = Math.min(Math.max(Math.floor(ms / LEAST_PART), 1), PARTS)
    const part = Math.max(Math.ceil(ms / parts), 0)
    const longest = 2 * Math.max(part, LEAST_PART)
    let left = parts
    let late = 0
    const wait = () => {
      const since = performance.now()
      return setTimeout(() => {
        const isLate = performance.now() - since > longest && late++ < MOST_LATE
        if (!isLate) left--
        if (left === 0) run()
        else timer = wait()
      }, part)
    }
    let timer = wait()
    return () => clearTimeout(timer)
  },
}
