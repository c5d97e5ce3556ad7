import type { Descriptor, Digest } from '../oci/digest.ts'
import { OVER, unlessAborted } from '../platform/abort.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { Flow } from './flow.ts'

/** A flow whose content is known. */
export interface OpenFlow {
  /** Of the whole content, in bytes. */
  readonly size: number
  /** Missing if that has no byte where the flow was to begin. `isArriving`: it began at a peer that is still getting it. */
  readonly content?: { readonly descriptor: Descriptor; readonly flow: Flow; readonly isArriving: boolean }
}

interface Entry {
  readonly digest: Digest
  readonly opening: Promise<OpenFlow | undefined>
  readonly stop: AbortController
  /** Where it begins. */
  readonly start: number
  /** Requests that wait for it to be opened. */
  waiting: number
}

/** Blobs of which it is known where the last request began: containerd fetches a few layers at a time. */
const MOST_STARTS = 64

/** The flows of blobs that take readers on. */
export class Flows {
  #entries: readonly Entry[] = []

  get size(): number {
    return this.#entries.length
  }

  /** To be called when the flow that was begun with that signal takes no more readers on. */
  remove(begun: AbortSignal): void {
    this.#entries = this.#entries.filter(({ stop }) => stop.signal !== begun)
  }

  /**
   * Waits for a flow that a request for the blob from that place on can read, which is begun if there is none, and hands it to
   * `use`. A flow that `use` has no use for is closed again, unless others read it or wait for it.
   *
   * @param use gives nothing if the flow does not go with the request
   * @param begin opens a flow; its signal aborts when nobody waits for it any more
   * @param signal takes this request out
   * @returns `undefined` if there is no such content
   * @throws the signal's reason
   */
  async join<T>(
    digest: Digest,
    start: number,
    use: (open: OpenFlow, isJoined: boolean) => T | undefined,
    begin: (signal: AbortSignal) => Promise<OpenFlow | undefined>,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    for (const entry of this.#entries) {
      if (entry.digest !== digest || entry.start > start) continue
      const joined = await this.#wait(entry, (open) => ({ value: use(open, true) }), signal)
      if (joined === undefined) return undefined
      if (joined.value !== undefined) return joined.value
    }
    const stop = new AbortController()
    const entry = { digest, opening: begin(stop.signal), stop, start, waiting: 0 }
    this.#entries = [...this.#entries, entry]
    return await this.#wait(entry, (open) => use(open, false), signal)
  }

  async #wait<T>(entry: Entry, use: (open: OpenFlow) => T, signal: AbortSignal): Promise<T | undefined> {
    entry.waiting++
    let open: OpenFlow | undefined
    try {
      open = await unlessAborted(entry.opening, signal)
      return open === undefined ? undefined : use(open)
    } finally {
      entry.waiting--
      if (entry.waiting === 0 && open?.content?.flow.isRead !== true) {
        entry.stop.abort(OVER)
        this.remove(entry.stop.signal)
        // The requests that waited have heard of a failure.
        void entry.opening.then((late) => late?.content?.flow.close()).catch(() => undefined)
      }
    }
  }
}

/**
 * The size of the chunks in which this node's containerd fetches layers in parallel. No request tells it: each asks for all
 * that follows. It shows in where they begin, and is the same for all layers, since it is a setting.
 */
export class ChunkSize {
  readonly #starts = new BoundedMap<number>(MOST_STARTS)
  #bytes = Number.POSITIVE_INFINITY

  /** Whether there were chunks. */
  get isKnown(): boolean {
    return this.#bytes < Number.POSITIVE_INFINITY
  }

  /** Where the client of a request for all that follows that offset will leave; infinity if that is not known. */
  endOf(digest: Digest, start: number): number {
    const last = this.#starts.get(digest)
    if (last !== undefined && start > last) this.#bytes = start - last
    this.#starts.set(digest, start)
    return start + this.#bytes
  }

  /** A client did not leave: what was taken for a chunk was where another one had broken off. */
  forget(): void {
    this.#bytes = Number.POSITIVE_INFINITY
  }
}
