/**
 * Why a mirror is not ready, in words, as its parts say. A part that must not be waited for in vain takes a
 * {@link Wait} when it is made, so that nothing is ready by oversight:
 *
 *     const joined = readiness.wait('the swarm is not joined yet')
 *     ...
 *     joined.over()
 */
export class Readiness {
  readonly #told: (() => Told)[] = []
  readonly #listeners = new Set<() => void>()

  /** Waits for something, for the given reasons, until that is over. */
  wait(...reasons: readonly string[]) {
    let told: Told = { reasons: [], notes: [] }
    /** Waits, for these reasons instead of those before, and says this beside instead of what it said before. */
    const tell = ({ reasons, notes }: Told): void => {
      const before = JSON.stringify(told)
      told = { reasons, notes }
      if (before !== JSON.stringify(told)) for (const listener of this.#listeners) listener()
    }
    /** Waits, for these reasons instead of those before. */
    const waitFor = (...reasons: readonly string[]): void => tell({ reasons, notes: [] })
    this.#told.push(() => told)
    waitFor(...reasons)
    return {
      /** Empty when there is nothing to wait for. */
      get reasons(): readonly string[] {
        return told.reasons
      },
      tell,
      for: waitFor,
      /** There is nothing to wait for, at least for now. */
      over: (): void => waitFor(),
    }
  }

  /** Empty when the mirror is ready; in the order in which the parts were made otherwise. */
  get reasons(): readonly string[] {
    return this.#told.flatMap((told) => told().reasons)
  }

  /** What people should know although it makes nothing unready. */
  get notes(): readonly string[] {
    return this.#told.flatMap((told) => told().notes)
  }

  /**
   * Calls `listener` whenever the reasons or the notes have changed.
   *
   * @returns what ends that
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

interface Told {
  readonly reasons: readonly string[]
  readonly notes: readonly string[]
}

/** What one part waits for. */
export type Wait = ReturnType<Readiness['wait']>
