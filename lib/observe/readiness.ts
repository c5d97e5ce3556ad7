import { unlessAborted } from '../platform/abort.ts'

/**
 * Why a mirror is not ready, in words, as its parts say. A part that the mirror must wait for takes a {@link Wait} as soon as
 * it is made, so that the mirror cannot become ready before it:
 *
 *     const joined = readiness.wait('the swarm is not joined yet')
 *     ...
 *     joined.over()
 */
export class Readiness {
  readonly #told: (() => Told)[] = []
  readonly #listeners = new Set<() => void>()

  /** Makes the mirror wait, for these reasons, until the wait is over. */
  wait(...reasons: readonly string[]) {
    let told: Told = { reasons: [], notes: [] }
    /** Replaces the reasons and the notes of this wait. */
    const tell = ({ reasons, notes }: Told): void => {
      const before = JSON.stringify(told)
      told = { reasons, notes }
      if (before !== JSON.stringify(told)) for (const listener of this.#listeners) listener()
    }
    /** Replaces the reasons of this wait, and drops its notes. */
    const waitFor = (...reasons: readonly string[]): void => tell({ reasons, notes: [] })
    this.#told.push(() => told)
    waitFor(...reasons)
    return {
      /** Empty when the wait is over. */
      get reasons(): readonly string[] {
        return told.reasons
      },
      tell,
      for: waitFor,
      /** Ends the wait, at least for now. */
      over: (): void => waitFor(),
    }
  }

  /** Empty when the mirror is ready; otherwise in the order in which the parts were made. */
  get reasons(): readonly string[] {
    return this.#told.flatMap((told) => told().reasons)
  }

  /** Notes that people should know, but that do not make the mirror unready. */
  get notes(): readonly string[] {
    return this.#told.flatMap((told) => told().notes)
  }

  /**
   * Calls `listener` whenever the reasons or the notes have changed.
   *
   * @returns a function that removes the listener
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Waits until the mirror is ready.
   *
   * @throws the signal's reason
   */
  async reached(signal: AbortSignal): Promise<void> {
    while (this.reasons.length > 0) {
      const changed = Promise.withResolvers<void>()
      const unfollow = this.onChange(changed.resolve)
      await unlessAborted(changed.promise, signal).finally(unfollow)
    }
  }
}

interface Told {
  readonly reasons: readonly string[]
  readonly notes: readonly string[]
}

/** The wait of one part. */
export type Wait = ReturnType<Readiness['wait']>
