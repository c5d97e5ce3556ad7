import { closeSync, openSync, read, readSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import type { ByteSource } from './byte-source.ts'
import { freeMemory } from './runtime.ts'

/** A part of a file. */
export interface FilePart {
  readonly path: string
  /** First byte, counted from 0. */
  readonly start: number
  /** In bytes. */
  readonly length: number
}

/** Bytes read at a time. The chunk stays in the processor's cache; larger chunks measured slower. */
const CHUNK = 256 * 1024
/** Parts of up to this many bytes are read synchronously: hops through the thread pool would take ten times as long. */
const SMALL = 64 * 1024
/** A read that takes fewer milliseconds than this finds its bytes in memory, so the next ones probably do, too. */
const QUICK = 1
/** How many reads there are between two turns of the event loop: a client that takes all at once must not hold up others. */
const IN_A_ROW = 4

/** The bytes of a part of a file. The first read opens it: a source that nobody reads holds no descriptor. */
export class FileSource implements ByteSource {
  readonly path: string
  readonly #chunks: AsyncGenerator<Uint8Array, void>

  constructor(part: FilePart) {
    this.path = part.path
    this.#chunks = readPart(part)
  }

  async next(): Promise<Uint8Array | undefined> {
    return (await this.#chunks.next()).value ?? undefined
  }

  async cancel(): Promise<void> {
    await this.#chunks.return()
  }
}

/**
 * Reads into the same buffer again and again, in half the time of a stream with a buffer per chunk. Ends early if the file
 * does.
 *
 * Reads that do not wait for the disk are synchronous: the hops of the others through the thread pool took a third of the
 * processor time of a node that gives a blob.
 */
async function* readPart({ path, start, length }: FilePart): AsyncGenerator<Uint8Array, void> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(CHUNK, length))
  const file = openSync(path, 'r')
  let isQuick = length <= SMALL
  try {
    for (let done = 0, reads = 1; done < length; reads++) {
      const part = [file, buffer, 0, Math.min(buffer.length, length - done), start + done] as const
      // A read in the thread pool may come back within the same turn.
      if (reads % IN_A_ROW === 0) await setImmediate()
      const since = performance.now()
      const bytes = isQuick ? readSync(...part) : await readLater(...part)
      if (bytes === 0) return
      isQuick = performance.now() - since < QUICK
      done += bytes
      yield buffer.subarray(0, bytes)
    }
  } finally {
    closeSync(file)
  }
  // Not in the `finally`: when the client leaves early, the system may still read the buffer.
  freeMemory(buffer)
}

/** Reads in the thread pool. */
function readLater(file: number, buffer: Buffer, at: number, length: number, position: number): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  read(file, buffer, at, length, position, (error, bytes) => (error === null ? resolve(bytes) : reject(error)))
  return promise
}
