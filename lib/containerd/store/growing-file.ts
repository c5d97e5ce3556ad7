import { statSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { type Clock, systemClock } from '../../platform/clock.ts'
import { type Arrival, ArrivalError, Growth } from '../../store/arrival.ts'
import { unlessMissing } from '../../store/missing.ts'

/** The most bytes to read at a time: a quarter of the blocks in which containerd writes. */
const CHUNK_SIZE = 256 * 1024

/**
 * The shortest and the longest time between two looks, in milliseconds, and the part of the time since the file last grew: a file
 * that stands still, perhaps for hours, costs nearly nothing. A look takes a few microseconds. A watch would cost more, and each
 * runtime leaves out other events.
 */
const LOOK_INTERVAL = 5
const LONGEST_INTERVAL = 250
const STILL_PART = 1 / 4

/** How often in a row a read may find no byte where there were some, before the file counts as broken. */
const EMPTY_READS = 3

export interface GrowingFilePlace {
  /** Its place while it grows, in a directory of its own. */
  readonly growing: string
  /** Its place when it is complete. Something may be there already, because another writer can be faster. */
  readonly complete: string
  /** In bytes, when it is complete. */
  readonly size: number | undefined
}

/** A file that grows until it is renamed, or removed if its writer gives up. */
export class GrowingFile extends Growth implements Arrival {
  readonly #place: GrowingFilePlace
  readonly #open = new Set<FileHandle>()
  readonly #clock: Clock
  #grewAt: number
  #lookedAt = Number.NEGATIVE_INFINITY
  #cancelLook: () => void = () => undefined
  #closed = false
  /** The system's error if the file could not be read. */
  #failure: unknown

  constructor(place: GrowingFilePlace, clock: Clock = systemClock) {
    super()
    this.#place = place
    this.#clock = clock
    this.#grewAt = clock.now()
    // At once, because callers ask what was already there.
    this.#look()
    this.#lookLater()
  }

  get size(): number | undefined {
    return this.#place.size
  }

  /** Looks, if the last look is old: a writer may have started over since. */
  override get written(): number {
    if (this.#clock.now() - this.#lookedAt >= LOOK_INTERVAL) this.#look()
    return super.written
  }

  override set written(bytes: number) {
    super.written = bytes
  }

  async *read(offset: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    let at = offset
    let file = await this.#openFile()
    const memory = new Uint8Array(CHUNK_SIZE)
    try {
      for (let empty = 0; ; ) {
        await this.grown(at, signal)
        if (this.#closed || this.state === 'aborted') throw this.#error()
        const { written } = this
        if (at >= written) {
          if (this.state === 'committed') return
          // The writer has just started over, or given up.
          continue
        }
        const { bytesRead } = await file.read(memory, 0, Math.min(CHUNK_SIZE, written - at), at)
        if (bytesRead > 0) {
          empty = 0
          at += bytesRead
          yield memory.subarray(0, bytesRead)
        } else {
          // The writer has started over, or another writer was faster.
          if (++empty > EMPTY_READS) throw this.#error()
          await this.#closeFile(file)
          this.#look()
          file = await this.#openFile()
        }
      }
    } finally {
      await this.#closeFile(file)
    }
  }

  close(): void {
    this.#closed = true
    this.finish('aborted')
    for (const file of this.#open) void this.#closeFile(file)
  }

  #lookLater(): void {
    if (this.state !== 'growing') return
    const pause = Math.min((this.#clock.now() - this.#grewAt) * STILL_PART, LONGEST_INTERVAL)
    this.#cancelLook = this.#clock.after(Math.max(pause, LOOK_INTERVAL), () => {
      this.#look()
      this.#lookLater()
    })
  }

  #look(): void {
    const { growing, complete, size } = this.#place
    if (this.state !== 'growing') return
    this.#lookedAt = this.#clock.now()
    try {
      const found = sizeOf(growing)
      if (found !== undefined) {
        if (found !== super.written) this.#grewAt = this.#clock.now()
        this.written = found
        return
      }
      const whole = sizeOf(complete)
      const isCommitted = whole !== undefined && whole === (size ?? whole)
      if (isCommitted) this.written = whole
      this.finish(isCommitted ? 'committed' : 'aborted')
    } catch (error) {
      this.#failure = error
      this.finish('aborted')
    }
  }

  override finish(end: 'committed' | 'aborted'): void {
    super.finish(end)
    this.#cancelLook()
  }

  async #openFile(): Promise<FileHandle> {
    const { growing, complete } = this.#place
    const file = (await unlessMissing(open(growing, 'r'))) ?? (await unlessMissing(open(complete, 'r')))
    if (file === undefined) throw this.#error()
    this.#open.add(file)
    if (this.#closed) await this.#closeFile(file)
    return file
  }

  async #closeFile(file: FileHandle): Promise<void> {
    if (this.#open.delete(file)) await file.close()
  }

  #error(): ArrivalError {
    const why = this.#closed ? 'it was closed' : 'its writer has given up'
    return new ArrivalError(`${this.#place.growing} has no more to give: ${why}`, { cause: this.#failure })
  }
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size
}
