/** The items of all sources as they come, in no order between sources. Leaving early ends all of them. */
export async function* merge<T>(sources: readonly AsyncIterable<T>[]): AsyncIterable<T> {
  const iterators = new Set(sources.map((source) => source[Symbol.asyncIterator]()))
  const step = async (iterator: AsyncIterator<T>) => ({ iterator, result: await iterator.next() })
  const steps = new Map([...iterators].map((iterator) => [iterator, step(iterator)]))
  try {
    while (steps.size > 0) {
      const { iterator, result } = await Promise.race(steps.values())
      if (result.done) {
        steps.delete(iterator)
        continue
      }
      steps.set(iterator, step(iterator))
      yield result.value
    }
  } finally {
    // Who is still asked for its next item may answer never; it is told to end, but not waited for.
    for (const [iterator, pending] of steps) {
      pending.catch(() => undefined)
      iterator.return?.().catch(() => undefined)
    }
  }
}
