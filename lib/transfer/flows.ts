import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import { unlessAborted } from '../platform/abort.ts'
import type { SharedFlow } from './share.ts'

/** A transfer of a whole blob that several requests may read. */
export interface OpenFlow {
  readonly descriptor: Descriptor
  readonly flow: SharedFlow
}

interface Entry {
  readonly opening: Promise<OpenFlow | undefined>
  readonly stop: AbortController
  /** Requests that wait for it to be opened. */
  waiting: number
}

/** The transfers of whole blobs that are under way, at most one of each. */
export class Flows {
  readonly #entries = new Map<Digest, Entry>()

  has(digest: Digest): boolean {
    return this.#entries.has(digest)
  }

  get size(): number {
    return this.#entries.size
  }

  /**
   * To be called when the flow takes no more readers on.
   *
   * @param begun the signal that it was begun with: there may be a newer flow of the same blob
   */
  remove(digest: Digest, begun: AbortSignal): void {
    if (this.#entries.get(digest)?.stop.signal === begun) this.#entries.delete(digest)
  }

  /**
   * Waits for the flow of that blob, which is begun if there is none, and hands it to `use`. A flow to which `use` attaches
   * nobody is closed again, unless others read it or wait for it.
   *
   * @param begin opens the flow; its signal aborts when nobody waits for it any more
   * @param signal takes this request out
   * @returns `undefined` if there is no such content
   * @throws the signal's reason
   */
  async join<T>(
    digest: Digest,
    begin: (signal: AbortSignal) => Promise<OpenFlow | undefined>,
    use: (open: OpenFlow, joined: boolean) => T,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    const before = this.#entries.get(digest)
    const entry = before ?? this.#begin(digest, begin)
    entry.waiting++
    let open: OpenFlow | undefined
    try {
      open = await unlessAborted(entry.opening, signal)
      return open === undefined ? undefined : use(open, before !== undefined)
    } finally {
      entry.waiting--
      if (entry.waiting === 0 && open?.flow.isRead !== true) {
        entry.stop.abort()
        this.remove(digest, entry.stop.signal)
        // Whoever failed to open it has told those who waited.
        void entry.opening.then((late) => late?.flow.close()).catch(() => undefined)
      }
    }
  }

  #begin(digest: Digest, begin: (signal: AbortSignal) => Promise<OpenFlow | undefined>): Entry {
    const stop = new AbortController()
    const entry = { opening: begin(stop.signal), stop, waiting: 0 }
    this.#entries.set(digest, entry)
    return entry
  }
}
