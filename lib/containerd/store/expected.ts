import type { Digest } from '../../oci/digest.ts'

export interface ExpectedOptions {
  /** How many are kept; the oldest goes first. */
  readonly limit?: number
  /** Milliseconds for which one is kept. */
  readonly life?: number
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

/** Far more than the layers of all pulls that run at a time. */
const LIMIT = 1_024
/** Longer than any layer takes, in milliseconds; what came by then and is in no image is left over from a pull that failed. */
const LIFE = 3_600_000
/** Shortest time between two looks, in milliseconds. */
const SHORTEST = 1_000
/** What took some time so far may take as long again: a look after an eighth of it finds it soon enough, and costs little. */
const PART = 8

interface Entry {
  /** When it was expected, and when it was found, by the clock. */
  readonly since: number
  foundAt?: number | undefined
}

/**
 * Digests that containerd is getting at this moment, as far as the mirror knows: those it was asked for and did not have.
 * No image names them until the pull is over, so this is how others find the layers that are complete by then.
 */
export class Expected {
  readonly #all = new Map<Digest, Entry>()
  readonly #limit: number
  readonly #life: number
  readonly #now: () => number

  constructor({ limit = LIMIT, life = LIFE, now = () => performance.now() }: ExpectedOptions = {}) {
    this.#limit = limit
    this.#life = life
    this.#now = now
  }

  add(digest: Digest): void {
    // Anew at the end, so that the first is always the oldest.
    this.#all.delete(digest)
    this.#all.set(digest, { since: this.#now() })
    const [oldest] = this.#all.keys()
    if (oldest !== undefined && this.#all.size > this.#limit) this.#all.delete(oldest)
  }

  has(digest: Digest): boolean {
    return this.#all.has(digest)
  }

  /** All of them, the oldest first. */
  get all(): Digest[] {
    return [...this.#all.keys()]
  }

  /** Those that have not been found yet, or are gone again; the oldest first. */
  get missing(): Digest[] {
    return this.all.filter((digest) => this.#all.get(digest)?.foundAt === undefined)
  }

  /** Takes note of whether one is there. */
  note(digest: Digest, isThere: boolean): void {
    const entry = this.#all.get(digest)
    if (entry !== undefined) entry.foundAt = isThere ? (entry.foundAt ?? this.#now()) : undefined
  }

  /**
   * Those that are there and in no image yet, as a look at everything says that was begun at `begun`: it may have missed
   * what was found since. What is in an image is not expected any more.
   */
  arrived(isThere: (digest: Digest) => boolean, isInImage: (digest: Digest) => boolean, begun: number): Digest[] {
    const now = this.#now()
    for (const [digest, { since }] of this.#all) {
      if (now - since > this.#life || isInImage(digest)) this.#all.delete(digest)
    }
    for (const [digest, entry] of this.#all) {
      if (isThere(digest)) entry.foundAt ??= now
      else if (entry.foundAt !== undefined && entry.foundAt < begun) entry.foundAt = undefined
    }
    return [...this.#all].filter(([, { foundAt }]) => foundAt !== undefined).map(([digest]) => digest)
  }

  /** After how many milliseconds to look again; `undefined` if nothing is expected. */
  get patience(): number | undefined {
    const youngest = [...this.#all.values()].at(-1)?.since
    return youngest === undefined ? undefined : Math.max((this.#now() - youngest) / PART, SHORTEST)
  }
}
