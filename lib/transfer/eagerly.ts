/**
 * Reads the source from now on, whether or not anybody waits for the next item, and gives the items in their order until
 * the source ends or the signal aborts, whichever is first. What was found before that is kept: peers found by a lookup
 * can be tried after its time is over, and a source that does not heed the signal holds nobody up.
 *
 * Leaving the loop early does not end the source; the signal that it was made with does.
 */
export async function* eagerly<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T> {
  const items: T[] = []
  let ended = signal.aborted
  let failure: { readonly error: unknown } | undefined
  let wake = Promise.withResolvers<void>()
  const end = () => {
    ended = true
    wake.resolve()
  }
  const collect = async () => {
    try {
      for await (const item of source) {
        if (ended) return
        items.push(item)
        wake.resolve()
      }
    } catch (error) {
      if (!ended) failure = { error }
    } finally {
      end()
    }
  }
  // Never rejects: its failure is kept and thrown to the reader.
  void collect()
  signal.addEventListener('abort', end, { once: true })
  try {
    for (;;) {
      const item = items.shift()
      if (item !== undefined) yield item
      else if (failure !== undefined) throw failure.error
      else if (ended) return
      else {
        await wake.promise
        wake = Promise.withResolvers<void>()
      }
    }
  } finally {
    signal.removeEventListener('abort', end)
  }
}
