import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { digestKey, type Key, tagKey } from '../../lib/oci/key.ts'
import { formatReference, type TaggedReference } from '../../lib/oci/reference.ts'
import { ArrivalError } from '../../lib/store/arrival.ts'
import type { ContentChange, ContentStore } from '../../lib/store/store.ts'
import { readBody } from '../fixtures/body.ts'
import { type Content, contentOf, DOCKER, digestOf, type Image, makeImage, makeIndex } from '../fixtures/image.ts'
import { PATIENCE, waitFor, within } from '../fixtures/wait.ts'

/** A store under test that holds none of the suite's images yet, and functions that change its content. */
export interface StoreFixture {
  readonly store: ContentStore
  /** Puts an image behind the store, under a full name. Its `contents` may lack pieces. The store may notice later. */
  put(image: Image, name: string): Promise<void>
  /** Removes an image and all its contents. */
  remove(image: Image, name: string): Promise<void>
  /**
   * Begins to write a blob that no image names, like a pull; missing if the store tells of no arrivals. The store may notice
   * later.
   */
  arrive?(content: Content): Promise<ArrivingContent>
  /** Closes the store and everything behind it. Called once, even after a failure. */
  close(): Promise<void>
}

/** A blob that the suite writes piece by piece. */
export interface ArrivingContent {
  /** Writes at least this many bytes, but not all. */
  write(bytes: number): Promise<void>
  /** Writes the missing bytes, and completes the blob. */
  commit(): Promise<void>
  /** Aborts the blob. */
  abort(): Promise<void>
}

export interface StoreConformanceOptions {
  /** Milliseconds that the store may take to notice a change. */
  readonly patience?: number
}

const REFERENCE: TaggedReference = { registry: 'registry.example:5000', repository: 'team/app', tag: '1.2' }
const NAME = formatReference(REFERENCE)

/** Larger than containerd's blocks of 1 MiB, and not a multiple of them. */
const ARRIVING_SIZE = 3_500_001
const HALF = 1_500_000

/** A different blob each time, because a store that holds it after one test need not write it for the next. */
function makeArriving(): Content {
  return contentOf('application/octet-stream', randomBytes(ARRIVING_SIZE))
}

/**
 * The suite that every ContentStore must pass.
 *
 * @param name the name of the store, with which the names of the tests begin
 * @param makeFixture called for each test
 */
export function storeConformance(
  name: string,
  makeFixture: () => Promise<StoreFixture>,
  { patience = PATIENCE }: StoreConformanceOptions = {},
): void {
  const never = new AbortController().signal

  function check(what: string, body: (fixture: StoreFixture) => Promise<void>): void {
    test(`${name}: ${what}`, async () => {
      const fixture = await makeFixture()
      try {
        await body(fixture)
      } finally {
        await fixture.close()
      }
    })
  }

  function checkArriving(
    what: string,
    body: (store: ContentStore, content: Content, writer: ArrivingContent) => Promise<void>,
  ): void {
    check(what, async (fixture) => {
      const content = makeArriving()
      const writer = await fixture.arrive?.(content)
      if (writer !== undefined) await body(fixture.store, content, writer)
      // A store that tells of no arrivals has none.
      else assert.equal(fixture.store.arriving(content.descriptor.digest), undefined)
    })
  }

  async function putAndWait(fixture: StoreFixture, image: Image, imageName: string): Promise<void> {
    await fixture.put(image, imageName)
    const last = image.contents.at(-1) ?? assert.fail('an image without content')
    await waitFor(`${imageName} is held`, () => fixture.store.describe(last.descriptor.digest, never), patience)
  }

  check(
    'describe gives size and media type of everything in an index, undefined for what is absent',
    async (fixture) => {
      const arm = makeImage({ seed: 2, platform: { os: 'linux', architecture: 'arm64' } })
      const index = makeIndex([makeImage({ seed: 1 }), arm])
      await putAndWait(fixture, index, NAME)
      for (const { descriptor } of index.contents) {
        assert.deepEqual(await fixture.store.describe(descriptor.digest, never), descriptor)
      }
      assert.equal(await fixture.store.describe(digestOf(new Uint8Array([1])), never), undefined)
    },
  )

  check('describe gives the media types of Docker images', async (fixture) => {
    const image = makeImage({ seed: 3, mediaTypes: DOCKER })
    await putAndWait(fixture, image, NAME)
    for (const { descriptor } of image.contents) {
      assert.deepEqual(await fixture.store.describe(descriptor.digest, never), descriptor)
    }
  })

  check('describe knows only what is really there of an index with several platforms', async (fixture) => {
    const [amd, arm] = [
      makeImage({ seed: 4 }),
      makeImage({ seed: 5, platform: { os: 'linux', architecture: 'arm64' } }),
    ]
    const index = makeIndex([amd, arm])
    const absent = new Set(arm.contents.map((content) => content.descriptor.digest))
    await putAndWait(
      fixture,
      { ...index, contents: index.contents.filter((c) => !absent.has(c.descriptor.digest)) },
      NAME,
    )
    assert.deepEqual(await fixture.store.describe(index.target.digest, never), index.target)
    assert.deepEqual(await fixture.store.describe(amd.target.digest, never), amd.target)
    for (const digest of absent) {
      assert.equal(await fixture.store.describe(digest, never), undefined)
      assert.equal(await fixture.store.open(digest, undefined, never), undefined)
    }
  })

  check('resolve gives the digest of exactly the tag that is there', async (fixture) => {
    const image = makeImage({ seed: 6 })
    await putAndWait(fixture, image, NAME)
    const resolve = (other: Partial<TaggedReference>) => fixture.store.resolve({ ...REFERENCE, ...other }, never)
    assert.equal(await resolve({}), image.target.digest)
    assert.equal(await resolve({ tag: '1.3' }), undefined)
    assert.equal(await resolve({ repository: 'team/other' }), undefined)
    assert.equal(await resolve({ registry: 'registry.example' }), undefined)
  })

  check('resolve follows a tag that moves to another image', async (fixture) => {
    const [before, after] = [makeImage({ seed: 7 }), makeImage({ seed: 8 })]
    await putAndWait(fixture, before, NAME)
    await fixture.put(after, NAME)
    await waitFor(
      'the tag has moved',
      async () => (await fixture.store.resolve(REFERENCE, never)) === after.target.digest,
      patience,
    )
  })

  check('open gives exactly the bytes, whole and in ranges', async (fixture) => {
    // Larger than the chunks of stores, so that a body has several.
    const image = makeImage({ seed: 9, layers: 1, layerSize: 300_001 })
    await putAndWait(fixture, image, NAME)
    for (const { descriptor, bytes } of image.contents) {
      const last = bytes.length - 1
      const ranges = [
        { start: 0, end: 0 },
        { start: 0, end: last },
        { start: 7, end: Math.floor(last / 2) },
        { start: last, end: last },
      ]
      const whole = await fixture.store.open(descriptor.digest, undefined, never)
      assert.deepEqual(Buffer.from(await readBody(whole ?? assert.fail('not held'))), Buffer.from(bytes))
      for (const range of ranges) {
        const body = (await fixture.store.open(descriptor.digest, range, never)) ?? assert.fail('not held')
        assert.deepEqual(Buffer.from(await readBody(body)), Buffer.from(bytes.subarray(range.start, range.end + 1)))
      }
    }
  })

  check('open is undefined for what is absent', async (fixture) => {
    assert.equal(await fixture.store.open(digestOf(new Uint8Array([2])), undefined, never), undefined)
    assert.equal(await fixture.store.open(digestOf(new Uint8Array([2])), { start: 0, end: 1 }, never), undefined)
  })

  check('open, describe and resolve are undefined after a removal', async (fixture) => {
    const image = makeImage({ seed: 10 })
    await putAndWait(fixture, image, NAME)
    await fixture.remove(image, NAME)
    for (const { descriptor } of image.contents) {
      await waitFor(
        `${descriptor.digest} is gone`,
        async () => (await fixture.store.describe(descriptor.digest, never)) === undefined,
        patience,
      )
      assert.equal(await fixture.store.open(descriptor.digest, undefined, never), undefined)
    }
    await waitFor(
      'the tag is gone',
      async () => (await fixture.store.resolve(REFERENCE, never)) === undefined,
      patience,
    )
  })

  check('watch tells first what is held, then what comes and goes', async (fixture) => {
    const [first, second] = [makeImage({ seed: 11 }), makeImage({ seed: 12 })]
    const other: TaggedReference = { ...REFERENCE, tag: '2' }
    const keysOf = (image: Image, reference: TaggedReference) => [
      tagKey(reference),
      ...image.contents.map((content) => digestKey(content.descriptor.digest)),
    ]
    await putAndWait(fixture, first, NAME)
    await waitFor('the tag resolves', () => fixture.store.resolve(REFERENCE, never), patience)

    const watching = new AbortController()
    const watched = follow(fixture.store, watching.signal)
    const change = await within('the first change', watched.first, patience)
    assert.deepEqual(change.removed, [])
    for (const key of keysOf(first, REFERENCE)) assert.ok(change.added.includes(key), `${key} in the first change`)

    await fixture.put(second, formatReference(other))
    await waitFor(
      'the second image is told',
      () => keysOf(second, other).every((key) => watched.held.has(key)),
      patience,
    )
    assert.ok(keysOf(first, REFERENCE).every((key) => watched.held.has(key)))

    await fixture.remove(first, NAME)
    await waitFor('the removal is told', () => !keysOf(first, REFERENCE).some((key) => watched.held.has(key)), patience)
    assert.ok(keysOf(second, other).every((key) => watched.held.has(key)))

    watching.abort()
    assert.deepEqual(await within('the end of watch', watched.ended, patience), [])
  })

  check('watch gives its first change even if it has nothing to tell, and ends when aborted', async (fixture) => {
    const watching = new AbortController()
    const watched = follow(fixture.store, watching.signal)
    const change = await within('the first change', watched.first, patience)
    assert.deepEqual(change.removed, [])
    watching.abort()
    assert.deepEqual(await within('the end of watch', watched.ended, patience), [])
  })

  check('watch ends at once for a signal that is aborted already', async (fixture) => {
    const watched = follow(fixture.store, AbortSignal.abort())
    assert.deepEqual(await within('the end of watch', watched.ended, patience), [])
  })

  check('watch tells two watchers the same, and one may leave', async (fixture) => {
    const watching = new AbortController()
    const one = follow(fixture.store, watching.signal)
    const two = follow(fixture.store, watching.signal)
    for await (const change of fixture.store.watch(watching.signal)) {
      assert.deepEqual(change.removed, [])
      break
    }
    await within('the first changes', Promise.all([one.first, two.first]), patience)
    const image = makeImage({ seed: 13 })
    await fixture.put(image, NAME)
    for (const { held } of [one, two]) {
      await waitFor(
        'the image is told',
        () => held.has(tagKey(REFERENCE)) && held.has(digestKey(image.target.digest)),
        patience,
      )
    }
    watching.abort()
    assert.deepEqual(await within('the ends of watch', Promise.all([one.ended, two.ended]), patience), [[], []])
  })

  checkArriving(
    'what arrives is read while it grows, from any offset, and is held when it is complete',
    async (store, { bytes, descriptor }, writer) => {
      const arrival = await waitFor('it arrives', () => store.arriving(descriptor.digest), patience)
      assert.equal(arrival.size, bytes.length)
      const [all, tail] = [collect(arrival.read(0, never)), collect(arrival.read(bytes.length - 5, never))]
      await writer.write(HALF)
      await within('its growth', arrival.grown(HALF - 1, never), patience)
      await waitFor('half of it is read', () => all.length >= HALF, patience)
      assert.ok(arrival.written >= HALF && arrival.written < bytes.length && all.length < bytes.length)
      assert.equal(tail.length, 0)
      assert.equal(await store.describe(descriptor.digest, never), undefined)
      await writer.commit()
      assert.equal(await within('the end', arrival.ended, patience), 'committed')
      assert.equal(arrival.written, bytes.length)
      assert.deepEqual(await within('all of it', all.done, patience), Buffer.from(bytes))
      assert.deepEqual(await within('its tail', tail.done, patience), Buffer.from(bytes.subarray(-5)))
      assert.deepEqual(await collect(arrival.read(HALF, never)).done, Buffer.from(bytes.subarray(HALF)))
      await waitFor('it is held', () => store.describe(descriptor.digest, never), patience)
      await waitFor('nothing arrives', () => store.arriving(descriptor.digest) === undefined, patience)
      arrival.close()
      await assert.rejects(collect(arrival.read(0, never)).done, ArrivalError)
    },
  )

  checkArriving('what is given up is told to those who read it', async (store, { descriptor: { digest } }, writer) => {
    const arrival = await waitFor('it arrives', () => store.arriving(digest), patience)
    const reading = collect(arrival.read(0, never))
    await writer.write(HALF)
    await waitFor('half of it is read', () => reading.length >= HALF, patience)
    await writer.abort()
    assert.equal(await within('the end', arrival.ended, patience), 'aborted')
    await assert.rejects(within('the end of the reading', reading.done, patience), ArrivalError)
    await within('no more growth', arrival.grown(ARRIVING_SIZE, never), patience)
    await waitFor('nothing arrives', () => store.arriving(digest) === undefined, patience)
    assert.equal(await store.describe(digest, never), undefined)
    arrival.close()
  })

  checkArriving(
    'readers of what arrives end with their signal, and when it is closed',
    async (store, { bytes, descriptor }, writer) => {
      const find = () => store.arriving(descriptor.digest)
      const [one, two] = [await waitFor('it arrives', find, patience), find() ?? assert.fail('it arrives no more')]
      await writer.write(HALF)
      const leaving = new AbortController()
      const reason = new Error('enough')
      const [left, closed, kept] = [one.read(0, leaving.signal), one.read(0, never), two.read(0, never)].map(collect)
      assert.ok(left !== undefined && closed !== undefined && kept !== undefined)
      for (const reading of [left, closed, kept])
        await waitFor('half of it is read', () => reading.length >= HALF, patience)
      leaving.abort(reason)
      await assert.rejects(within('the end by the signal', left.done, patience), reason)
      await assert.rejects(one.grown(ARRIVING_SIZE, leaving.signal), reason)
      one.close()
      await assert.rejects(within('the end by closing', closed.done, patience), ArrivalError)
      assert.equal(await one.ended, 'aborted')
      await writer.commit()
      assert.deepEqual(await within('all of it', kept.done, patience), Buffer.from(bytes))
      two.close()
    },
  )

  check('nothing arrives that nobody writes', async (fixture) => {
    const image = makeImage({ seed: 14 })
    await putAndWait(fixture, image, NAME)
    for (const { descriptor } of image.contents) assert.equal(fixture.store.arriving(descriptor.digest), undefined)
    assert.equal(fixture.store.arriving(digestOf(new Uint8Array([3]))), undefined)
  })

  check('close ends watchers, and may be called twice', async (fixture) => {
    const watched = follow(fixture.store, never)
    await within('the first change', watched.first, patience)
    await fixture.store.close()
    assert.deepEqual(await within('the end of watch', watched.ended, patience), [])
    await fixture.store.close()
  })
}

/** Reads bytes as they come. */
function collect(pieces: AsyncIterable<Uint8Array>) {
  const read: Uint8Array[] = []
  const done = (async () => {
    for await (const piece of pieces) read.push(Buffer.from(piece))
    return Buffer.concat(read)
  })()
  // Code that waits for it gets the error.
  done.catch(() => undefined)
  return {
    done,
    get length() {
      return read.reduce((sum, { length }) => sum + length, 0)
    },
  }
}

interface Followed {
  /** The sum of the changes so far. */
  readonly held: Set<Key>
  readonly first: Promise<ContentChange>
  /** The contradictions, once the watch has ended. */
  readonly ended: Promise<string[]>
}

/**
 * Adds up the changes of a watch, and notes every key that is added while it is held, removed while it is not held, or both.
 */
function follow(store: ContentStore, signal: AbortSignal): Followed {
  const held = new Set<Key>()
  const problems: string[] = []
  const first = Promise.withResolvers<ContentChange>()
  // Nobody may ask for the first change, and then nobody needs to know that there was none.
  first.promise.catch(() => undefined)
  const ended = (async () => {
    for await (const change of store.watch(signal)) {
      for (const key of change.removed) if (!held.delete(key)) problems.push(`${key} removed without being held`)
      for (const key of change.added) {
        if (held.has(key)) problems.push(`${key} added twice`)
        held.add(key)
        if (change.removed.includes(key)) problems.push(`${key} both added and removed`)
      }
      first.resolve(change)
    }
    first.reject(new Error('the watch ended without a first change'))
    return problems
  })()
  ended.catch((error: unknown) => first.reject(error))
  return { held, first: first.promise, ended }
}
