import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import { freeMemory } from '../platform/runtime.ts'
import type { Span } from './piece.ts'
import type { Verifier } from './verify.ts'

export interface FlowDependencies {
  /** The bytes of the span. */
  readonly source: ByteSource
  readonly span: Span
  /** A verifier that has seen exactly the bytes that the source has given; missing if they are not verified. */
  readonly verifier?: Verifier | undefined
  /**
   * Makes a source of a span for a reader that has become too slow for the flow.
   *
   * @param verifier has seen all bytes before the span; missing if that is not known
   */
  readonly alone: (span: Span, verifier: Verifier | undefined) => ByteSource
  /** How many bytes the flow may keep now. */
  readonly window: () => number
  /** Called once, when the flow takes no more readers. */
  readonly onRetire: () => void
}

/**
 * How far ahead of the flow a reader may begin and wait, in bytes. A pull that goes on where it broke off may fetch the rest in
 * parallel, with a request for each chunk. If the chunks are small, a flow for each would fetch much more than the rest.
 */
const REACH = 8 * 1024 * 1024

interface Kept {
  readonly start: number
  readonly bytes: Uint8Array
  /** Has seen all bytes up to the end of this chunk; missing for the last chunk, after which there is nothing to verify. */
  readonly verifier: Verifier | undefined
  /** How many readers have got bytes of it and may still use them. */
  lent: number
}

/** A source that several readers share. */
export type Flow = ReturnType<typeof createFlow>

/**
 * One source for several readers. It keeps the last bytes that were read, up to a window. A reader within the window, or not
 * far ahead, stays with the flow; one that falls behind goes on alone. The source is read only when the foremost reader wants
 * more. So if all readers are slow, the source is slowed down, but one slow reader does not hold up the others.
 *
 * If only one reader is left, at the head, it reads the source itself, and the flow takes no more readers.
 */
export function createFlow({ source, span, verifier: seen, alone, window, onRetire }: FlowDependencies) {
  const fresh = seen?.copy()
  const readers = new Set<ByteSource>()
  const line: Kept[] = []
  let head = span.start
  /** The read that is under way, or has failed. */
  let reading: Promise<void> | undefined
  let isRetired = false
  let isClosed = false

  /** The offset of the first byte that is kept. All before it has been dropped. */
  function tail(): number {
    return line[0]?.start ?? head
  }

  /** Removes a reader, and ends the flow if it was the last one. */
  async function detach(reader: ByteSource): Promise<void> {
    if (readers.delete(reader) && readers.size === 0) await close()
  }

  /** Call this when a reader is done with its chunk. */
  function giveBack(kept: Kept): void {
    kept.lent--
    if (!line.includes(kept)) free(kept)
  }

  /** Whether the only reader is alone: nobody has joined it within the window or begun to read. */
  function isAlone(): boolean {
    return readers.size === 1 && reading === undefined && head - span.start >= window()
  }

  /** Waits for bytes beyond the head. All readers that wait at the same time share one read. */
  async function more(): Promise<void> {
    if (isClosed || head >= span.end) throw new PeerError('the flow has ended')
    reading ??= read()
    await reading
  }

  async function read(): Promise<void> {
    try {
      const bytes = await source.next()
      if (bytes === undefined) throw new PeerError(`the source ended before ${head}`)
      if (isClosed) return
      const start = head
      head += bytes.length
      const verifier = head < span.end ? seen?.copy() : undefined
      // Copied, because the source may use their memory again.
      line.push({ start, bytes: new Uint8Array(bytes), verifier, lent: 0 })
      trim(window())
      reading = undefined
    } catch (error) {
      // Present readers may still read the kept bytes, but a new reader must not fail with them.
      retire()
      throw error
    }
  }

  function retire(): void {
    if (isRetired) return
    isRetired = true
    onRetire()
  }

  function trim(most: number): void {
    // The newest chunk stays, whatever its size, unless all must go, because somebody has asked for it.
    while (head - tail() > most && line.length > (most === 0 ? 0 : 1)) for (const kept of line.splice(0, 1)) free(kept)
  }

  async function close(): Promise<void> {
    if (isClosed) return
    isClosed = true
    trim(0)
    retire()
    await source.cancel()
  }

  return {
    /** How many bytes the flow keeps in memory. */
    get kept(): number {
      return head - tail()
    },

    get isRead(): boolean {
      return readers.size > 0
    },

    /** A reader of that span; `undefined` if the flow does not have it, has dropped it, or will not reach it soon. */
    attach({ start, end }: Span): ByteSource | undefined {
      const isFar = start > head + REACH || end > span.end
      if (isRetired || isFar || start < tail()) return undefined
      let offset = start
      /** Has seen all bytes before the offset; `undefined` if that is not known. */
      let verifier = start === span.start ? fresh : undefined
      /** The chunk of which the reader has bytes that it may still use. */
      let held: Kept | undefined
      /** The source that it reads once it has fallen behind or is alone. */
      let rest: ByteSource | undefined
      let isCancelled = false
      const reader: ByteSource = {
        next: async () => {
          if (held !== undefined) giveBack(held)
          held = undefined
          while (rest === undefined) {
            if (isCancelled) throw new PeerError('cancelled')
            if (offset >= end) {
              // Empty content has nothing to verify but its end.
              if (span.start === span.end) await source.next()
              void detach(reader)
              return undefined
            }
            if (offset === head && end === span.end && isAlone()) {
              trim(0)
              retire()
              rest = source
              break
            }
            if (offset < tail()) {
              rest = alone({ start: offset, end }, verifier?.copy())
              void detach(reader)
              break
            }
            // Search from the end, because readers are close to the head.
            held = line.findLast((kept) => kept.start <= offset && offset < kept.start + kept.bytes.length)
            if (held === undefined) {
              await more()
              continue
            }
            held.lent++
            const chunk = held.bytes.subarray(offset - held.start, end - held.start)
            offset += chunk.length
            // It has seen all of the kept chunk.
            verifier = offset === held.start + held.bytes.length ? held.verifier : undefined
            return chunk
          }
          return await rest.next()
        },
        cancel: async () => {
          isCancelled = true
          // The reader's bytes may still be on their way to a client, so the garbage collector frees them.
          await Promise.all([detach(reader), rest?.cancel()])
        },
      }
      readers.add(reader)
      return reader
    },

    close,
  }
}

function free({ bytes, lent }: Kept): void {
  if (lent === 0) freeMemory(bytes)
}
