/**
 * Why a mirror is not ready, in words, as its parts say. A part that must not be waited for in vain takes a
 * {@link Wait} when it is made, so that nothing is ready by oversight:
 *
 *     const joined = readiness.wait('the swarm is not joined yet')
 *     ...
 *     joined.over()
 */
export class Readiness {
  readonly #waits: Wait[] = []
  readonly #listeners = new Set<() => void>()

  /** Waits for something, for the given reasons, until that is over. */
  wait(...reasons: readonly string[]): Wait {
    const wait = new Wait(() => {
      for (const listener of this.#listeners) listener()
    })
    this.#waits.push(wait)
    wait.for(...reasons)
    return wait
  }

  /** Empty when the mirror is ready; in the order in which the parts were made otherwise. */
  get reasons(): readonly string[] {
    return this.#waits.flatMap(({ reasons }) => reasons)
  }

  /** What people should know although it makes nothing unready. */
  get notes(): readonly string[] {
    return this.#waits.flatMap(({ notes }) => notes)
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

/** What one part waits for. */
export class Wait {
  readonly #changed: () => void
  #reasons: readonly string[] = []
  #notes: readonly string[] = []

  constructor(changed: () => void) {
    this.#changed = changed
  }

  /** Empty when there is nothing to wait for. */
  get reasons(): readonly string[] {
    return this.#reasons
  }

  get notes(): readonly string[] {
    return this.#notes
  }

  /** Waits, for these reasons instead of those before, and says this beside instead of what it said before. */
  tell({ reasons, notes }: { readonly reasons: readonly string[]; readonly notes: readonly string[] }): void {
    const before = [this.#reasons, this.#notes]
    this.#reasons = reasons
    this.#notes = notes
    if (JSON.stringify(before) !== JSON.stringify([reasons, notes])) this.#changed()
  }

  /** Waits, for these reasons instead of those before. */
  for(...reasons: readonly string[]): void {
    this.tell({ reasons, notes: [] })
  }

  /** There is nothing to wait for, at least for now. */
  over(): void {
    this.for()
  }
}
