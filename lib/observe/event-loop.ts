export interface EventLoopOptions {
  /** Milliseconds between two looks. */
  readonly interval?: number
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

/** Often enough to see a loop that is held up, too seldom to cost anything, in milliseconds. */
const INTERVAL = 500

/**
 * Tells again and again by how many seconds a timer was late, which is how long whatever comes next has to wait. A timer
 * of our own, since `monitorEventLoopDelay` means something else on each runtime.
 *
 * @returns what ends it
 */
export function watchEventLoop(
  observe: (seconds: number) => void,
  { interval = INTERVAL, now = () => performance.now() }: EventLoopOptions = {},
): () => void {
  let due = now() + interval
  const timer = setInterval(() => {
    observe(Math.max(now() - due, 0) / 1000)
    due = now() + interval
  }, interval)
  timer.unref()
  return () => clearInterval(timer)
}
