import type { Descriptor, Digest } from '../oci/digest.ts'
import { OVER, unlessAborted } from '../platform/abort.ts'
import type { Flow } from './flow.ts'

/** A flow whose content is known. */
export interface OpenFlow {
  /** The size of the whole content, in bytes. */
  readonly size: number
  /** Missing if the content has no byte at the start of the flow. */
  readonly content?: { readonly descriptor: Descriptor; readonly flow: Flow }
}

interface Entry {
  readonly digest: Digest
  readonly opening: Promise<OpenFlow | undefined>
  readonly stop: AbortController
  /** The offset at which the flow begins. */
  readonly start: number
  /** How many requests wait for the flow to open. */
  waiting: number
}

/** The flows of blobs that take readers. */
export class Flows {
  #entries: readonly Entry[] = []

  get size(): number {
    return this.#entries.length
  }

  /** Call this when the flow that was begun with that signal takes no more readers. */
  remove(begun: AbortSignal): void {
    this.#entries = this.#entries.filter(({ stop }) => stop.signal !== begun)
  }

  /**
   * Waits for a flow that can serve a request for the blob from that offset on, beginning one if there is none, and passes it
   * to `use`. If `use` returns nothing, the flow is closed again, unless others read it or wait for it.
   *
   * @param use returns nothing if the flow does not suit the request
   * @param begin opens a flow; its signal aborts when nobody waits for the flow any more
   * @param signal cancels this request
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
      // It may have been given up while this request waited for the one before it.
      if (entry.digest !== digest || entry.start > start || entry.stop.signal.aborted) continue
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
        // If opening failed, the waiting requests have got the error.
        void entry.opening.then((late) => late?.content?.flow.close()).catch(() => undefined)
      }
    }
  }
}
