import { bounded, OVER, onAbort, unlessAborted } from '../../platform/abort.ts'
import { ContainerdError, containerdError } from './error.ts'

/** A running server stream. It ends when it is read to its end or left, or when its signal aborts. */
export interface ServerStream<T> extends AsyncIterable<T> {
  /** Ends the call, as leaving the loop does. */
  cancel(): void
}

/**
 * Begins a server-streaming call at once and reads it with a bound. connect's own iterables neither start reading before the first
 * `next` nor cancel the call when a loop is left; this one does both.
 *
 * @param call the call's name, for errors
 * @param begin starts the call, which must end with the signal it is given
 * @param limits `signal` ends the call with its reason. `stallTimeout` is the longest wait for one message in milliseconds,
 *   `undefined` if silence is normal. The reader's own time does not count.
 * @throws {ContainerdError} while iterating: `timeout` for a stall, else what containerd reported
 */
export function openStream<T>(
  call: string,
  begin: (signal: AbortSignal) => AsyncIterable<T>,
  limits: { readonly signal: AbortSignal; readonly stallTimeout: number | undefined },
): ServerStream<T> {
  const { signal, stallTimeout } = limits
  const ending = new AbortController()
  const following = onAbort(signal, () => ending.abort(OVER))
  const cancel = () => {
    following[Symbol.dispose]()
    ending.abort(OVER)
  }
  const messages = signal.aborted ? undefined : begin(ending.signal)[Symbol.asyncIterator]()
  const next = async (from: AsyncIterator<T>) => {
    if (stallTimeout === undefined) return await from.next()
    return await bounded(stallTimeout, undefined, (late) =>
      unlessAborted(from.next(), late).catch((error) => {
        throw late.aborted
          ? new ContainerdError('timeout', `containerd ${call}: no message for ${stallTimeout} ms`)
          : error
      }),
    )
  }
  let first = messages && next(messages)
  // The first failure waits here for the reader, and must not count as unhandled until then.
  first?.catch(() => undefined)

  async function* read(): AsyncGenerator<T, void, undefined> {
    try {
      while (messages !== undefined && !signal.aborted) {
        const result = await (first ?? next(messages))
        first = undefined
        if (result.done === true) return
        yield result.value
      }
      signal.throwIfAborted()
    } catch (error) {
      signal.throwIfAborted()
      throw containerdError(call, error)
    } finally {
      cancel()
    }
  }
  return { [Symbol.asyncIterator]: read, cancel }
}
