export interface EventLoopOptions {
  /** Milliseconds between two looks. */
  readonly interval?: number
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

/** Milliseconds: often enough to see a loop that is held up, too seldom to cost anything. */
const INTERVAL = 500

/**
 * Observes again and again by how many seconds a timer was late, which is how long everything else has to wait as well. With
 * a timer of its own, because `monitorEventLoopDelay` means something else on each runtime.
 *
 * @returns what ends that
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
