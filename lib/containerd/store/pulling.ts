import type { Digest } from '../../oci/digest.ts'
import { BoundedMap } from '../../platform/bounded-map.ts'
import type { Snapshot } from './snapshot.ts'

/** The most digests to keep; the oldest goes first. Far more than the layers of all simultaneous pulls. */
const LIMIT = 1_024

/** How long to keep a digest, in milliseconds: longer than any layer takes. An older one is left over from a failed pull. */
const LIFE = 3_600_000

interface Entry {
  readonly since: number
  foundAt?: number
}

/**
 * Digests that containerd is pulling, as far as the mirror knows: it was asked for them and did not have them. No image names them
 * until the pull is over.
 */
export class Pulling {
  readonly #entries = new BoundedMap<Entry, Digest>(LIMIT)
  readonly #now: () => number

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  add(digest: Digest): void {
    this.#entries.set(digest, { since: this.#now() })
  }

  has(digest: Digest): boolean {
    return this.#entries.has(digest)
  }

  /** Notes that a digest is complete. */
  found(digest: Digest): void {
    const entry = this.#entries.get(digest)
    if (entry !== undefined) entry.foundAt = this.#now()
  }

  /**
   * The digests that are complete and in no image yet, by a snapshot that began at `begun` and may have missed later ones. Forgets
   * digests that are in an image, and those that never came.
   */
  complete({ mediaTypes, sizes, withheld }: Snapshot, begun: number): Digest[] {
    const now = this.#now()
    for (const [digest, { since }] of this.#entries) {
      if (now - since > LIFE || mediaTypes.has(digest)) this.#entries.delete(digest)
    }
    return [...this.#entries]
      .filter(([digest, { foundAt = -1 }]) => (sizes.has(digest) || foundAt >= begun) && !withheld.has(digest))
      .map(([digest]) => digest)
  }
}
