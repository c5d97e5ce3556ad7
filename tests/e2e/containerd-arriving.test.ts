/** The content that a pull of a real containerd brings, while the pull still runs. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { connectContainerd } from '../../lib/containerd/client/client.ts'
import { digestKey, type Key } from '../../lib/oci/key.ts'
import type { Arrival } from '../../lib/store/arrival.ts'
import { readBody } from '../fixtures/body.ts'
import { removeImage, startContainerd } from '../fixtures/containerd.ts'
import { type Watched, watchStore } from '../fixtures/containerd-store.ts'
import { type Content, type Image, makeImage } from '../fixtures/image.ts'
import { imageOfLayers, startRegistry, type TestRegistry } from '../fixtures/registry.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const containerd = await startContainerd()
after(() => containerd.close())

const never = new AbortController().signal

/** An image with a small layer and one larger than a block of containerd. The registry stops in the middle of the large one. */
async function withHeldPull(
  seed: number,
  use: (parts: {
    readonly watched: Watched
    readonly image: Image
    readonly registry: TestRegistry
    readonly small: Content
    readonly large: Content
    readonly arrival: Arrival
    /** Resolves with whether the pull succeeded. */
    readonly pulled: Promise<boolean>
  }) => Promise<void>,
): Promise<void> {
  const small = makeImage({ seed, layers: 1 }).contents.at(-1) ?? assert.fail()
  const large = makeImage({ seed: seed + 1, layers: 1, layerSize: 3_500_000 }).contents.at(-1) ?? assert.fail()
  const image = imageOfLayers(small, large)
  const registry = await startRegistry()
  const connection = connectContainerd(containerd.socket)
  try {
    registry.put(image, 'held')
    registry.hold(large.descriptor.digest, 2 << 20)
    // Events alone must suffice: the store does not look by itself here.
    await watchStore(
      containerd,
      'k8s.io',
      async (watched) => {
        await waitFor('the first change', () => watched.changes.length > 0)
        for (const { descriptor } of image.contents) watched.store.expect?.(descriptor.digest)
        const pulled = connection.cri.pullImage(`${registry.host}/team/app:held`, never).then(
          () => true,
          () => false,
        )
        const arrival = await waitFor('the large layer', () => watched.store.arriving(large.descriptor.digest))
        await within('its first half', arrival.grown((2 << 20) - 1, never))
        await waitFor('the small layer is held', () => watched.held.has(digestKey(small.descriptor.digest)))
        await use({ watched, image, registry, small, large, arrival, pulled })
        await pulled
      },
      // What the store offers must not depend on the request alone, since some images are refused here.
      { restlessTime: 0, admitsSource: (host) => host === registry.host.replace(/:\d+$/, '') },
    )
  } finally {
    connection.close()
    await registry.close()
  }
}

test('containerd store reads a layer while containerd pulls it, and offers complete layers', () =>
  withHeldPull(70, async ({ watched: { store, held }, image, registry, small, large, arrival, pulled }) => {
    assert.equal(arrival.size, large.bytes.length)
    assert.equal(arrival.written, 2 << 20)
    const reading = (async () => {
      const pieces: Uint8Array[] = []
      for await (const piece of arrival.read(0, never)) pieces.push(Buffer.from(piece))
      return Buffer.concat(pieces)
    })()
    const body = (await store.open(small.descriptor.digest, undefined, never)) ?? assert.fail('not held')
    assert.deepEqual(Buffer.from(await readBody(body)), Buffer.from(small.bytes))
    assert.equal(await store.open(large.descriptor.digest, undefined, never), undefined)
    assert.equal(held.has(digestKey(large.descriptor.digest)), false)
    registry.release(large.descriptor.digest)
    assert.equal(await within('the end', arrival.ended), 'committed')
    assert.deepEqual(await within('all of it', reading), Buffer.from(large.bytes))
    await waitFor('the large layer is held', () => held.has(digestKey(large.descriptor.digest)))
    assert.equal(await pulled, true)
    await waitFor('the image is held', () => held.has(`${registry.host}/team/app:held` as Key))
    await removeImage(containerd, 'k8s.io', image)
    await waitFor('nothing is held', () => held.size === 0)
  }))

test('containerd store notices that a pull was given up, and withdraws what it had brought', () =>
  withHeldPull(72, async ({ watched: { store, held }, registry, large, arrival, pulled }) => {
    registry.lose(large.descriptor.digest)
    assert.equal(await pulled, false)
    assert.equal(await within('the end', arrival.ended), 'aborted')
    await waitFor('nothing is held', () => held.size === 0)
    await waitFor('nothing arrives', () => store.arriving(large.descriptor.digest) === undefined)
  }))

test('containerd store ends arriving content when containerd is killed', () =>
  withHeldPull(74, async ({ watched: { store }, arrival, pulled }) => {
    await containerd.kill()
    try {
      assert.equal(await within('the end', arrival.ended), 'aborted')
      assert.equal(await pulled, false)
    } finally {
      await containerd.start()
    }
    await waitFor('containerd is found again', () => store.isUp)
  }))
