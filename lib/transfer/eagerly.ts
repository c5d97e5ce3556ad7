/**
 * Reads the source from now on, whether or not anybody waits for the next item, and gives the items in their order. What
 * was found before the source ended is kept: peers found by a lookup can be tried after its time is over.
 *
 * Leaving the loop early does not end the source; whoever made it does.
 */
export async function* eagerly<T>(source: AsyncIterable<T>): AsyncIterable<T> {
  const items: T[] = []
  let ended = false
  let failure: { readonly error: unknown } | undefined
  let wake = Promise.withResolvers<void>()
  const collect = async () => {
    try {
      for await (const item of source) {
        items.push(item)
        wake.resolve()
      }
    } catch (error) {
      failure = { error }
    } finally {
      ended = true
      wake.resolve()
    }
  }
  // Never rejects: its failure is kept and thrown to the reader.
  void collect()
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
}
