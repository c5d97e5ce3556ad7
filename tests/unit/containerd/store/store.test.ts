import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { ContainerdError, type ContainerdErrorCode } from '../../../../lib/containerd/client/error.ts'
import { type Descriptor, hexOf } from '../../../../lib/oci/digest.ts'
import { digestKey, type Key } from '../../../../lib/oci/key.ts'
import { OCTET_STREAM } from '../../../../lib/oci/media-type.ts'
import type { ContentStore } from '../../../../lib/store/store.ts'
import { makeContainerd, withStore } from '../../../doubles/containerd-double.ts'
import { type Image, makeImage, withTemporaryDirectory } from '../../../fixtures/image.ts'
import { blobPath } from '../../../fixtures/layout.ts'
import { waitFor, within } from '../../../fixtures/wait.ts'

const never = new AbortController().signal
const SECRET = 'registry.example/secret/app:1'
const OPEN = 'registry.example/team/app:1'
const admits = ({ repository }: { readonly repository: string }) => !repository.startsWith('secret/')

async function heldOf(store: ContentStore, image: Image): Promise<boolean[]> {
  return await Promise.all(
    image.contents.map(async ({ descriptor: { digest } }) => {
      const body = await store.open(digest, undefined, never)
      await body?.cancel()
      assert.equal((await store.describe(digest, never)) !== undefined, body !== undefined)
      return body !== undefined
    }),
  )
}

const all = (value: boolean, image: Image) => image.contents.map(() => value)

test('containerd store gives nothing of a refused image, before its first look, during its pull, or after it was removed', async () => {
  const containerd = makeContainerd()
  const [secret, pulled, open] = [makeImage({ seed: 1 }), makeImage({ seed: 2 }), makeImage({ seed: 3 })]
  containerd.put(...secret.contents, ...open.contents)
  containerd.name(secret, SECRET)
  containerd.name(open, OPEN)
  const look = containerd.holdUp()
  await withStore(containerd, { admits, admitsSource: () => true }, async (store, held) => {
    assert.deepEqual(await heldOf(store, secret), all(false, secret))
    look()
    await waitFor('the first look', () => held.has(OPEN as Key))
    assert.deepEqual(await heldOf(store, open), all(true, open))
    assert.deepEqual(await heldOf(store, secret), all(false, secret))
    containerd.put(...pulled.contents)
    assert.deepEqual(await heldOf(store, pulled), all(false, pulled))
    containerd.name(pulled, `${SECRET}1`)
    // What is named last is seen by the same look.
    containerd.name(open, `${OPEN}1`)
    await waitFor('the look', () => held.has(`${OPEN}1` as Key))
    assert.deepEqual(await heldOf(store, pulled), all(false, pulled))
    containerd.unname(`${SECRET}1`)
    containerd.name(open, `${OPEN}2`)
    await waitFor('the look after the removal', () => held.has(`${OPEN}2` as Key))
    assert.deepEqual(await heldOf(store, pulled), all(false, pulled))
    assert.deepEqual(
      [...held].sort(),
      [
        ...open.contents.map(({ descriptor }) => digestKey(descriptor.digest)),
        OPEN as Key,
        `${OPEN}1` as Key,
        `${OPEN}2` as Key,
      ].sort(),
    )
  })
})

/** Puts the beginning of a layer where containerd writes what it downloads. */
function beginIngest(root: string, { digest, size }: Descriptor): void {
  const directory = join(root, 'ingest', hexOf(digest))
  mkdirSync(directory)
  writeFileSync(join(directory, 'ref'), `test/1/layer-${digest}`)
  writeFileSync(join(directory, 'total'), String(size))
  writeFileSync(join(directory, 'data'), 'a')
}

test('containerd store gives what is expected before an image names it, and where images are refused only what an admitted one needs', async () => {
  await withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const [open, mine, theirs, secret] = [1, 2, 3, 4].map((seed) => makeImage({ seed })) as [Image, Image, Image, Image]
    const partsOf = ({ contents: [manifest, , layer, growing] }: Image) => ({
      manifest: manifest ?? assert.fail(),
      layer: layer ?? assert.fail(),
      growing: growing ?? assert.fail(),
    })
    containerd.put(...open.contents)
    containerd.name(open, OPEN)
    const admitsSource = (host: string, repository: string) => host === 'registry.example' && admits({ repository })
    const options = { admits, admitsSource, restlessTime: 0 }
    await withStore(containerd, options, async (store, held) => {
      await waitFor('the first look', () => held.has(OPEN as Key))
      // Two are not mirrored, and a process asks the mirror for them as for an image that is.
      for (const [image, host, repository] of [
        [theirs, 'secret.example', 'team/app'],
        [secret, 'registry.example', 'secret/app'],
        [mine, 'registry.example', 'other/app,team/app'],
      ] as const) {
        const { manifest, layer, growing } = partsOf(image)
        for (const { descriptor } of image.contents) store.expect?.(descriptor.digest)
        containerd.label(
          manifest.descriptor.digest,
          { host, repository },
          [layer, growing].map(({ descriptor }) => descriptor.digest),
        )
        containerd.label(layer.descriptor.digest, { host, repository })
        containerd.putSilently(manifest)
        containerd.putSilently(layer)
        beginIngest(root, growing.descriptor)
      }
      const { manifest, layer, growing } = partsOf(mine)
      for (const { descriptor } of [manifest, layer])
        await waitFor('it is told', () => held.has(digestKey(descriptor.digest)))
      const arrival = await waitFor('the layer that arrives', () => store.arriving(growing.descriptor.digest))
      arrival.close()
      assert.equal((await store.describe(layer.descriptor.digest, never))?.size, layer.bytes.length)
      containerd.name(open, `${OPEN}1`)
      await waitFor('the second look', () => held.has(`${OPEN}1` as Key))
      for (const { descriptor } of [theirs, secret].flatMap((image) => Object.values(partsOf(image)))) {
        assert.equal(held.has(digestKey(descriptor.digest)), false)
        assert.equal(await store.describe(descriptor.digest, never), undefined)
        assert.equal(store.arriving(descriptor.digest), undefined)
      }
    })
  })
})

test('containerd store gives what no image names where no image is refused', async () => {
  const containerd = makeContainerd()
  const [open, other] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  containerd.put(...open.contents, ...other.contents)
  containerd.name(open, OPEN)
  const look = containerd.holdUp()
  await withStore(containerd, {}, async (store, held) => {
    assert.deepEqual(await heldOf(store, other), all(true, other))
    look()
    await waitFor('the first look', () => held.has(OPEN as Key))
    assert.deepEqual(await heldOf(store, other), all(true, other))
  })
})

test('containerd store reads no more than the beginning of a layer that no image names', async () => {
  const containerd = makeContainerd()
  const { contents } = makeImage({ seed: 1 })
  const [manifest, layer] = [contents[0] ?? assert.fail(), contents.at(-1) ?? assert.fail()]
  containerd.put(manifest, layer)
  await withStore(containerd, {}, async (store) => {
    assert.equal((await store.describe(layer.descriptor.digest, never))?.mediaType, OCTET_STREAM)
    assert.ok(containerd.looks.read < 100, `${containerd.looks.read} of ${layer.bytes.length} bytes`)
    assert.deepEqual(await store.describe(manifest.descriptor.digest, never), manifest.descriptor)
  })
})

test('containerd store asks containerd nothing for what has no file, and nothing for what an image holds while all is quiet', async () => {
  await withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const [open, other] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
    containerd.put(...open.contents)
    containerd.name(open, OPEN)
    await withStore(containerd, { restlessTime: 0 }, async (store, held) => {
      await waitFor('the first look', () => held.has(OPEN as Key))
      await waitFor('quiet', async () => {
        containerd.looks.asked = 0
        return (await heldOf(store, open)).every(Boolean) && containerd.looks.asked === 0
      })
      assert.deepEqual(await heldOf(store, other), all(false, other))
      assert.equal(containerd.looks.asked, 0)
    })
  })
})

test('containerd store gives nothing of another namespace whose files it can read, and nothing that its own has no more', async () => {
  await withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const [open, foreign] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
    containerd.put(...open.contents)
    containerd.name(open, OPEN)
    await withStore(containerd, { restlessTime: 0 }, async (store, held) => {
      await waitFor('the first look', () => held.has(OPEN as Key))
      for (const { descriptor, bytes } of foreign.contents) writeFileSync(blobPath(root, descriptor.digest), bytes)
      assert.deepEqual(await heldOf(store, foreign), all(false, foreign))
      assert.deepEqual(await heldOf(store, open), all(true, open))
      const [gone] = open.contents.slice(-1)
      const digest = gone?.descriptor.digest ?? assert.fail()
      containerd.unputHere(digest)
      await waitFor('it is not there any more', async () => (await store.describe(digest, never)) === undefined)
      assert.equal(await store.open(digest, undefined, never), undefined)
    })
  })
})

test('containerd store asks containerd for what a look has told of and its files do not have', async () => {
  await withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const open = makeImage({ seed: 1 })
    containerd.put(...open.contents)
    containerd.name(open, OPEN)
    const elsewhere = `${root}/elsewhere`
    for (const { descriptor } of open.contents)
      mkdirSync(dirname(blobPath(elsewhere, descriptor.digest)), { recursive: true })
    mkdirSync(`${elsewhere}/ingest`)
    await withStore(containerd, { contentRoot: elsewhere }, async (store, held) => {
      await waitFor('the first look', () => held.has(OPEN as Key))
      assert.deepEqual(await heldOf(store, open), all(true, open))
    })
  })
})

test('containerd store goes on with what arrives while containerd is slow, and ends it when containerd goes away', () =>
  withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const { client } = containerd
    let failure: ContainerdError | undefined
    const failing: typeof client = {
      ...client,
      async *listContent(signal) {
        if (failure !== undefined) throw failure
        yield* client.listContent(signal)
      },
    }
    await withStore({ ...containerd, client: failing }, { retryFirst: 1, retryMost: 1 }, async (store) => {
      await waitFor('the first look', () => store.isUp)
      const { digest, size } = makeImage().target
      const directory = join(root, 'ingest', 'some')
      mkdirSync(directory)
      for (const [name, text] of Object.entries({ ref: `test/1/layer-${digest}`, total: `${size}`, data: 'a' }))
        writeFileSync(join(directory, name), text)
      const arrival = await waitFor('the arrival', () => store.arriving(digest))
      const fail = async (code: ContainerdErrorCode) => {
        failure = new ContainerdError(code, 'a test')
        containerd.put()
        await waitFor('a failed look', () => !store.isUp)
        failure = undefined
        await waitFor('a good look', () => store.isUp)
      }
      await fail('timeout')
      writeFileSync(join(directory, 'data'), 'ab')
      await within('its growth', arrival.grown(1, never))
      assert.equal(arrival.written, 2)
      await fail('unavailable')
      assert.equal(await within('its end', arrival.ended), 'aborted')
    })
  }))

test('containerd store outlives an event about a file that cannot be looked at', () =>
  withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const [layer = assert.fail(), other = assert.fail()] = makeImage({ layers: 2 }).contents.slice(2)
    await withStore(containerd, {}, async (store, held) => {
      await waitFor('the first look', () => store.isUp)
      // A link to itself fails as a broken disk does, and not as a file that is missing.
      symlinkSync(hexOf(other.descriptor.digest), blobPath(root, other.descriptor.digest))
      store.expect?.(layer.descriptor.digest)
      containerd.putSilently(layer)
      await waitFor('the next file', () => held.has(digestKey(layer.descriptor.digest)))
    })
  }))
