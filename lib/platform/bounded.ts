/**
 * Runs something with a signal that also aborts after a time, in milliseconds. Unlike that of `AbortSignal.timeout`, the
 * timer ends with the work: on Deno it would keep the process until it is over.
 */
export async function bounded<T>(
  time: number,
  signal: AbortSignal | undefined,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const late = () => controller.abort(new DOMException(`not done within ${time} ms`, 'TimeoutError'))
  const stop = () => controller.abort(signal?.reason)
  const timer = setTimeout(late, time)
  if (signal?.aborted === true) stop()
  else signal?.addEventListener('abort', stop, { once: true })
  try {
    return await run(controller.signal)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', stop)
  }
}
