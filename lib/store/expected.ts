import type { Digest } from '../oci/digest.ts'

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

/**
 * Digests that containerd is getting at this moment, as far as the mirror knows: those it was asked for and did not have.
 * No image names them until the pull is over, so this is how others find the layers that are complete by then.
 */
export class Expected {
  readonly #since = new Map<Digest, number>()
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
    this.#since.delete(digest)
    this.#since.set(digest, this.#now())
    const [oldest] = this.#since.keys()
    if (oldest !== undefined && this.#since.size > this.#limit) this.#since.delete(oldest)
  }

  has(digest: Digest): boolean {
    return this.#since.has(digest)
  }

  /** Those that are there and in no image yet. What is in one is not expected any more. */
  arrived(isThere: (digest: Digest) => boolean, isInImage: (digest: Digest) => boolean): Digest[] {
    const now = this.#now()
    for (const [digest, since] of this.#since) {
      if (now - since > this.#life || isInImage(digest)) this.#since.delete(digest)
    }
    return [...this.#since.keys()].filter(isThere)
  }

  /** After how many milliseconds to look again; `undefined` if nothing is expected. */
  get patience(): number | undefined {
    const youngest = [...this.#since.values()].at(-1)
    return youngest === undefined ? undefined : Math.max((this.#now() - youngest) / PART, SHORTEST)
  }
}
