import { type Clock, systemClock } from './clock.ts'

/**
 * The reason to abort work that nobody needs any more. All such work shares it, because an error with its stack takes 20 to 200
 * us to make.
 */
export const OVER = new DOMException('not needed any more', 'AbortError')

/**
 * Calls `run` once when the signal aborts, at once if it has aborted already. Dispose of the result (`using`) when the work is
 * over, or a signal that lives longer keeps `run` in memory.
 */
export function onAbort(signal: AbortSignal, run: () => void): Disposable {
  if (signal.aborted) run()
  else signal.addEventListener('abort', run, { once: true })
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', run) }
}

/**
 * Runs work with a signal that also aborts after `time` milliseconds. The timer ends with the work; that of
 * `AbortSignal.timeout` would go on until it fires.
 */
export async function bounded<T>(
  time: number,
  signal: AbortSignal | undefined,
  run: (signal: AbortSignal) => Promise<T>,
  clock: Pick<Clock, 'after'> = systemClock,
): Promise<T> {
  const controller = new AbortController()
  const late = () => controller.abort(new DOMException(`not done within ${time} ms`, 'TimeoutError'))
  const cancel = clock.after(time, late)
  using _ = signal && onAbort(signal, () => controller.abort(signal.reason))
  try {
    return await run(controller.signal)
  } finally {
    cancel()
  }
}

/** The promise's value; rejects with the signal's reason if the signal aborts first. For work that cannot be stopped. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  using _ = onAbort(signal, () => reject(signal.reason))
  return await Promise.race([promise, aborted])
}

/** The promise's value; `undefined` if the signal aborts first. For work that cannot be stopped. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const { promise: aborted, resolve } = Promise.withResolvers<undefined>()
  using _ = onAbort(signal, () => resolve(undefined))
  return await Promise.race([promise, aborted])
}

/**
 * Waits until the clock says `time`.
 *
 * @throws the signal's reason
 */
export async function until(clock: Clock, time: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const cancelTimer = clock.after(Math.max(time - clock.now(), 0), resolve)
  using _ = onAbort(signal, () => reject(signal.reason))
  try {
    await promise
  } finally {
    cancelTimer()
  }
}
