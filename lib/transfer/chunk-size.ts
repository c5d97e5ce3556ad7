import type { Digest } from '../oci/digest.ts'
import { BoundedMap } from '../platform/bounded-map.ts'

/** Blobs of which it is known where the last request began: containerd fetches a few layers at a time. */
const LIMIT = 64

/**
 * The size of the chunks in which this node's containerd fetches layers in parallel. No request tells it: each asks for all
 * that follows. It shows in where they begin, and is the same for all layers, since it is a setting.
 */
export class ChunkSize {
  readonly #starts = new BoundedMap<number>(LIMIT)
  #bytes = Number.POSITIVE_INFINITY

  /** Where the client of a request for all that follows that offset will leave; infinity if that is not known. */
  endOf(digest: Digest, start: number): number {
    const last = this.#starts.get(digest)
    if (last !== undefined && start > last) this.#bytes = start - last
    this.#starts.set(digest, start)
    return start + this.#bytes
  }
}
