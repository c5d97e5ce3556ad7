import assert from 'node:assert/strict'
import { readdirSync, readlinkSync } from 'node:fs'
import { appendFile, mkdir, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { GrowingFile } from '../../../../lib/containerd/store/growing-file.ts'
import { ArrivalError } from '../../../../lib/store/arrival.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'
import { never } from '../../../fixtures/layout.ts'
import { waitFor, within } from '../../../fixtures/wait.ts'

/** A file that grows as a test wants, and its readers. */
interface Growing {
  readonly place: { readonly growing: string; readonly complete: string; readonly size: number | undefined }
  readonly file: GrowingFile
  /** Reads from an offset on, to the end. */
  read(offset: number): Promise<string>
}

function growing(size: number | undefined, use: (growing: Growing, directory: string) => Promise<void>): Promise<void> {
  return withTemporaryDirectory(async (directory) => {
    const place = { growing: join(directory, 'ingest', 'data'), complete: join(directory, 'complete'), size }
    await mkdir(join(directory, 'ingest'))
    await writeFile(place.growing, '')
    const file = new GrowingFile(place)
    const read = async (offset: number) => {
      const pieces: Uint8Array[] = []
      for await (const piece of file.read(offset, never)) pieces.push(Buffer.from(piece))
      return Buffer.concat(pieces).toString()
    }
    try {
      await use({ place, file, read }, directory)
    } finally {
      file.close()
    }
  })
}

/** Open files of this process below a directory. */
function openBelow(directory: string): string[] {
  const descriptors = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      // Closed in the meantime, like the descriptor that lists them.
      return ''
    }
  })
  return descriptors.filter((path) => path.startsWith(directory))
}

test('a growing file is read to the end of its final form', () =>
  growing(9, async ({ place, file, read }) => {
    const [all, tail] = [read(0), read(7)]
    for (const [text, length] of [
      ['abc', 3],
      ['def', 6],
    ] as const) {
      await appendFile(place.growing, text)
      await within('its growth', file.grown(length - 1, never))
      assert.equal(file.written, length)
    }
    await appendFile(place.growing, 'ghi')
    await rename(place.growing, place.complete)
    assert.equal(await within('the end', file.ended), 'committed')
    assert.deepEqual([await within('all', all), await within('the tail', tail)], ['abcdefghi', 'hi'])
    assert.equal(await read(9), '')
  }))

test('a growing file counts as given up when it is removed', () =>
  growing(9, async ({ place, file, read }) => {
    await appendFile(place.growing, 'abc')
    const reading = assert.rejects(read(0), ArrivalError)
    await within('its growth', file.grown(2, never))
    await rm(join(place.growing, '..'), { recursive: true })
    assert.equal(await within('the end', file.ended), 'aborted')
    await within('the end of the reading', reading)
    await assert.rejects(read(0), ArrivalError)
  }))

test('a growing file that stands still is looked at ever more rarely, and every 5 ms while it grows', () =>
  growing(undefined, async ({ place }) => {
    const clock = new ManualClock()
    let looks = 0
    const counting = {
      now: () => clock.now(),
      after: (ms: number, run: () => void) =>
        clock.after(ms, () => {
          looks++
          run()
        }),
    }
    const file = new GrowingFile(place, counting)
    await clock.pass(1_000)
    assert.ok(looks < 60, `${looks} looks in the first second`)
    await clock.pass(9_000)
    looks = 0
    await clock.pass(10_000)
    assert.equal(looks, 40)
    // Whoever asks hears what is there now.
    await appendFile(place.growing, 'ab')
    await clock.pass(10)
    assert.equal(file.written, 2)
    await truncate(place.growing)
    await clock.pass(10_000)
    assert.equal(file.written, 0)
    looks = 0
    for (let ms = 0; ms < 500; ms += 10) {
      await appendFile(place.growing, 'abc')
      await clock.pass(10)
    }
    assert.ok(looks >= 40, `${looks} looks while it grew`)
    file.close()
    assert.equal(clock.pending, 0)
  }))

test('a growing file reports existing bytes at once', () =>
  growing(10, async ({ place }) => {
    await appendFile(place.growing, 'begun')
    const again = new GrowingFile(place)
    assert.equal(again.written, 5)
    again.close()
  }))

test('a growing file whose writer starts over is read on from the same offset', () =>
  growing(6, async ({ place, file, read }) => {
    await appendFile(place.growing, 'abcd')
    const reading = read(0)
    await within('its growth', file.grown(3, never))
    await truncate(place.growing, 0)
    await waitFor('the fall', () => file.written === 0)
    await appendFile(place.growing, 'abcdef')
    await rename(place.growing, place.complete)
    assert.equal(await within('all', reading), 'abcdef')
  }))

test('a growing file whose writer starts over while a reader rests is not at its end', () =>
  growing(400_000, async ({ place }) => {
    const clock = new ManualClock()
    await truncate(place.growing, 300_000)
    const file = new GrowingFile(place, clock)
    const pieces = file.read(0, never)
    let got = (await pieces.next()).value?.length ?? 0
    // Its next look by itself is not due yet.
    await clock.pass(1_000)
    await truncate(place.growing, 100)
    await clock.pass(10)
    const next = pieces.next()
    await truncate(place.growing, 400_000)
    await rename(place.growing, place.complete)
    await clock.pass(1_000)
    for (let piece = await next; piece.done !== true; piece = await pieces.next()) got += piece.value.length
    assert.equal(got, 400_000)
    file.close()
  }))

test("a growing file that is removed because another writer was faster is read from that writer's file", () =>
  growing(6, async ({ place, file, read }) => {
    await appendFile(place.growing, 'abc')
    const reading = read(0)
    await within('its growth', file.grown(2, never))
    await writeFile(place.complete, 'abcdef')
    await rm(place.growing)
    assert.equal(await within('the end', file.ended), 'committed')
    assert.equal(await within('all', reading), 'abcdef')
  }))

test('a growing file does not become complete by a file of another size', () =>
  growing(6, async ({ place, file }) => {
    await writeFile(place.complete, 'abc')
    await rm(place.growing)
    assert.equal(await within('the end', file.ended), 'aborted')
  }))

test('a growing file of unknown size has the size of its final form', () =>
  growing(undefined, async ({ place, file, read }) => {
    assert.equal(file.size, undefined)
    await appendFile(place.growing, 'abc')
    const reading = read(0)
    await rename(place.growing, place.complete)
    assert.equal(await within('all', reading), 'abc')
  }))

test('a growing file can be read even if it was complete before the first look; if it is gone, it was given up', () =>
  withTemporaryDirectory(async (directory) => {
    const place = { growing: join(directory, 'none', 'data'), complete: join(directory, 'complete'), size: 3 }
    await writeFile(place.complete, 'abc')
    const late = new GrowingFile(place)
    const gone = new GrowingFile({ ...place, complete: join(directory, 'nowhere') })
    assert.deepEqual(await within('the ends', Promise.all([late.ended, gone.ended])), ['committed', 'aborted'])
    for await (const piece of late.read(1, never)) assert.equal(Buffer.from(piece).toString(), 'bc')
    for (const file of [late, gone]) file.close()
  }))

test('close releases the file, even if a reader has stopped half-way', () =>
  growing(9, async ({ place, file }, directory) => {
    await appendFile(place.growing, 'abc')
    const [stopped, waiting] = [file.read(0, never), file.read(3, never)]
    assert.equal((await stopped.next()).done, false)
    const end = assert.rejects(within('the end', waiting.next()), ArrivalError)
    await waitFor('two open files', () => openBelow(directory).length === 2)
    file.close()
    file.close()
    await end
    assert.equal(await file.ended, 'aborted')
    await waitFor('nothing is open', () => openBelow(directory).length === 0)
    await assert.rejects(stopped.next(), ArrivalError)
  }))
