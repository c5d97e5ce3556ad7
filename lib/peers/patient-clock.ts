import type { Clock } from '../platform/clock.ts'

/** In how many parts a time is waited for, and how short a part may be, in milliseconds. */
const PARTS = 8
const LEAST_PART = 10
/** How many parts at most do not count because they were late: there is an end even if nothing ever comes in time. */
const MOST_LATE = 2 * PARTS

/**
 * The time of the system, as this process could make use of it. A timer of a process that had no processor, or too much to
 * do, is over before what the network has brought meanwhile is read, and would be held against peers that had answered in
 * time. So a time is waited for in parts, between which everything that has come is read, and a part that took more than
 * twice as long as it should does not count.
 */
export const patientClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const parts = Math.min(Math.max(Math.floor(ms / LEAST_PART), 1), PARTS)
    const part = Math.ceil(ms / parts)
    let left = parts
    let late = 0
    const wait = () => {
      const since = performance.now()
      return setTimeout(() => {
        const isLate = performance.now() - since > 2 * part && late++ < MOST_LATE
        if (!isLate) left--
        if (left === 0) run()
        else timer = wait()
      }, part)
    }
    let timer = wait()
    return () => clearTimeout(timer)
  },
}
