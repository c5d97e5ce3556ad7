/** The items of all sources as they come, in no order between sources. Who leaves early ends the sources himself. */
export async function* merge<T>(sources: readonly AsyncIterable<T>[]): AsyncIterable<T> {
  const step = async (iterator: AsyncIterator<T>) => ({ iterator, result: await iterator.next() })
  const iterators = sources.map((source) => source[Symbol.asyncIterator]())
  const steps = new Map(iterators.map((iterator) => [iterator, step(iterator)]))
  try {
    while (steps.size > 0) {
      const { iterator, result } = await Promise.race(steps.values())
      steps.delete(iterator)
      if (result.done) continue
      yield result.value
      steps.set(iterator, step(iterator))
    }
  } finally {
    // Whoever is still asked for its next item may fail when it is ended, which nobody wants to hear of.
    for (const pending of steps.values()) pending.catch(() => undefined)
  }
}
