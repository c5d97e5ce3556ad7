/** How soon the store finds expected content, and what that costs. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestKey, type Key } from '../../../../lib/oci/key.ts'
import { OCTET_STREAM } from '../../../../lib/oci/media-type.ts'
import { makeContainerd, withStore } from '../../../doubles/containerd-double.ts'
import { makeImage, withTemporaryDirectory } from '../../../fixtures/image.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const OPEN = 'registry.example/team/app:1'
const OPEN_IMAGE = makeImage({ seed: 1 })
/** The layers of another image, without its manifest and config. */
const LAYERS = makeImage({ seed: 2, layers: 20 }).contents.slice(2)

/** Runs with a store that has looked once at a containerd with {@link OPEN}, and looks only once after each change. */
async function withOpen(
  containerd: ReturnType<typeof makeContainerd>,
  use: Parameters<typeof withStore>[2],
  options: Parameters<typeof withStore>[1] = { restlessTime: 0 },
): Promise<void> {
  containerd.put(...OPEN_IMAGE.contents)
  containerd.name(OPEN_IMAGE, OPEN)
  await withStore(containerd, options, async (store, held, removals) => {
    await waitFor('the first look', () => held.has(OPEN as Key))
    await use(store, held, removals)
  })
}

test('containerd store finds expected content without a look at everything', () =>
  withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    await withOpen(containerd, async (store, held) => {
      for (const layer of LAYERS) {
        const key = digestKey(layer.descriptor.digest)
        store.expect?.(layer.descriptor.digest)
        containerd.putSilently(layer)
        await waitFor('the layer is told', () => held.has(key))
      }
      assert.equal(containerd.looks.begun, 1)
    })
  }))

test('containerd store finds expected content as soon as containerd reports it, without a look at everything', async () => {
  // Without files, so that nothing else reports it.
  const containerd = makeContainerd()
  const other = makeImage({ seed: 3 }).contents.at(-1) ?? assert.fail()
  await withOpen(containerd, async (store, held) => {
    const look = containerd.holdUp()
    for (const { descriptor } of LAYERS) store.expect?.(descriptor.digest)
    await waitFor('a look that hangs', () => containerd.looks.begun === 2)
    for (const layer of LAYERS) {
      containerd.putAndTell(layer)
      await waitFor('the layer is told', () => held.has(digestKey(layer.descriptor.digest)))
    }
    assert.equal(containerd.looks.begun, 2)
    containerd.putAndTell(other)
    look()
    await waitFor('a look for what nobody expects', () => containerd.looks.begun === 3)
  })
})

test('containerd store finds expected content by looking if there are neither files nor events, and sees it go', async () => {
  const containerd = makeContainerd()
  const layer = makeImage({ seed: 2 }).contents.at(-1) ?? assert.fail()
  const key = digestKey(layer.descriptor.digest)
  const use: Parameters<typeof withOpen>[1] = async (store, held) => {
    store.expect?.(layer.descriptor.digest)
    await waitFor('a look that misses it', () => containerd.looks.begun >= 2)
    containerd.putSilently(layer)
    await waitFor('the layer is told', () => held.has(key))
    containerd.unputSilently(layer.descriptor.digest)
    await waitFor('it is withdrawn', () => !held.has(key))
  }
  await withOpen(containerd, use, { restlessInterval: 10 })
})

test('containerd store looks at everything when content of an image disappears without an event', () =>
  withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const { digest } = OPEN_IMAGE.contents.at(-1)?.descriptor ?? assert.fail()
    await withOpen(containerd, async (_store, held) => {
      containerd.unputSilently(digest)
      await waitFor('it is withdrawn', () => !held.has(digestKey(digest)))
      assert.ok(held.has(OPEN as Key))
    })
  }))

test('containerd store finds expected content that comes later, and keeps it over a look that began earlier', () =>
  withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const layer = makeImage({ seed: 2 }).contents.at(-1) ?? assert.fail()
    const key = digestKey(layer.descriptor.digest)
    await withOpen(containerd, async (store, held, removed) => {
      const look = containerd.holdUp()
      containerd.name(OPEN_IMAGE, `${OPEN}1`)
      await waitFor('the second look', () => containerd.looks.begun === 2)
      store.expect?.(layer.descriptor.digest)
      containerd.putSilently(layer)
      await waitFor('the layer is told', () => held.has(key))
      look()
      await waitFor('the end of that look', () => held.has(`${OPEN}1` as Key))
      assert.deepEqual(removed, [])
      containerd.unput(layer.descriptor.digest)
      await waitFor('a look without the layer', () => !held.has(key))
      containerd.putSilently(layer)
      await waitFor('the layer is told again', () => held.has(key))
    })
  }))

test('containerd store withdraws expected content that disappears without an event, as after a failed pull', () =>
  withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    const layer = makeImage({ seed: 2 }).contents.at(-1) ?? assert.fail()
    const key = digestKey(layer.descriptor.digest)
    await withOpen(containerd, async (store, held) => {
      for (const _ of [1, 2]) {
        store.expect?.(layer.descriptor.digest)
        containerd.putSilently(layer)
        await waitFor('the layer is told', () => held.has(key))
        containerd.unputSilently(layer.descriptor.digest)
        await waitFor('it is withdrawn', () => !held.has(key))
      }
      assert.equal(containerd.looks.begun, 1)
    })
  }))

test('containerd store asks containerd once for a layer of which a file and an event tell, and reads none of it', () =>
  withTemporaryDirectory(async (root) => {
    const containerd = makeContainerd(root)
    await withOpen(containerd, async (store, held) => {
      const { asked, read } = containerd.looks
      for (const layer of LAYERS) {
        const { digest } = layer.descriptor
        store.expect?.(digest, 'blob')
        containerd.putAndTell(layer)
        await waitFor('the layer is told', () => held.has(digestKey(digest)))
        for (const _ of [1, 2])
          assert.equal((await store.describe(digest, new AbortController().signal))?.mediaType, OCTET_STREAM)
      }
      assert.equal(containerd.looks.asked - asked, LAYERS.length)
      assert.equal(containerd.looks.read, read)
    })
  }))
