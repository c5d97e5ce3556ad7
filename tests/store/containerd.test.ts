import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ContainerdClient, Image as NamedImage } from '../../lib/containerd/client.ts'
import { ContainerdError } from '../../lib/containerd/error.ts'
import { silentLogger } from '../../lib/observe/log.ts'
import type { Digest } from '../../lib/oci/digest.ts'
import { digestKey, type Key } from '../../lib/oci/key.ts'
import { unlessAborted } from '../../lib/runtime/unless-aborted.ts'
import { type ContainerdStoreOptions, createContainerdStore } from '../../lib/store/containerd.ts'
import type { ContentStore } from '../../lib/store/store.ts'
import { type Content, type Image, makeImage } from '../fixtures/image.ts'
import { waitFor } from '../fixtures/wait.ts'

const never = new AbortController().signal
const SECRET = 'registry.example/secret/app:1'
const OPEN = 'registry.example/team/app:1'
const admits = ({ repository }: { readonly repository: string }) => !repository.startsWith('secret/')

/** A containerd of which a test decides what it holds, whether it lists that, and when it tells of a change. */
function makeContainerd() {
  const images: NamedImage[] = []
  const contents = new Map<Digest, Content>()
  let tell: () => void = () => undefined
  let listing = Promise.resolve()
  const unused = () => assert.fail('not to be asked')
  const client: ContainerdClient = {
    namespace: 'test',
    async contentInfo(digest) {
      const content = contents.get(digest)
      return content === undefined ? undefined : { digest, size: content.bytes.length, labels: {} }
    },
    async *listContent(signal) {
      await unlessAborted(listing, signal)
      for (const { descriptor } of contents.values()) yield { ...descriptor, labels: {} }
    },
    async *readContent(digest) {
      const content = contents.get(digest)
      if (content === undefined) throw new ContainerdError('not-found', 'gone')
      yield content.bytes
    },
    image: async (name) => images.find((image) => image.name === name),
    images: async () => [...images],
    async subscribe(_topics, signal) {
      const events = (async function* () {
        for (;;) {
          const { promise, resolve } = Promise.withResolvers<void>()
          tell = resolve
          await unlessAborted(promise, signal)
          yield { topic: '/images/update', namespace: 'test', name: '' } as never
        }
      })()
      return Object.assign(events, { cancel: () => undefined })
    },
    contentPlacement: async () => ({ root: undefined, policy: undefined }),
    version: unused,
    namespaces: unused,
    server: unused,
    plugins: unused,
    deleteImage: unused,
    leases: unused,
    deleteLease: unused,
    deleteContent: unused,
    ingests: unused,
    abortIngest: unused,
    close: () => undefined,
  }
  return {
    client,
    put(...added: readonly Content[]) {
      for (const content of added) contents.set(content.descriptor.digest, content)
      tell()
    },
    name(image: Image, name: string) {
      images.push({ name, target: image.target })
      tell()
    },
    unname(name: string) {
      images.splice(
        images.findIndex((image) => image.name === name),
        1,
      )
      tell()
    },
    /** Lets no look end until what it gives is called. */
    holdUp() {
      const { promise, resolve } = Promise.withResolvers<void>()
      listing = promise
      return resolve
    },
  }
}

async function withStore(
  containerd: ReturnType<typeof makeContainerd>,
  options: ContainerdStoreOptions,
  use: (store: ContentStore, held: ReadonlySet<Key>) => Promise<void>,
): Promise<void> {
  const store = createContainerdStore({ client: containerd.client, log: silentLogger }, { gatherFirst: 1, ...options })
  const held = new Set<Key>()
  const watching = (async () => {
    for await (const { added, removed } of store.watch(never)) {
      for (const key of removed) held.delete(key)
      for (const key of added) held.add(key)
    }
  })()
  try {
    await use(store, held)
  } finally {
    await store.close()
    await watching
  }
}

async function heldOf(store: ContentStore, image: Image): Promise<boolean[]> {
  return await Promise.all(
    image.contents.map(async ({ descriptor: { digest } }) => {
      const body = await store.open(digest, undefined, never)
      if (body?.kind === 'stream') await body.stream.cancel()
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
  await withStore(containerd, { admits, isSelective: true }, async (store, held) => {
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

test('containerd store gives what is expected before an image names it, also where images are refused', async () => {
  const containerd = makeContainerd()
  const [open, layer] = [makeImage({ seed: 1 }), makeImage({ seed: 2 }).contents.at(-1) ?? assert.fail()]
  containerd.put(...open.contents)
  containerd.name(open, OPEN)
  await withStore(containerd, { admits, isSelective: true }, async (store, held) => {
    await waitFor('the first look', () => held.has(OPEN as Key))
    store.expect?.(layer.descriptor.digest)
    containerd.put(layer)
    assert.equal((await store.describe(layer.descriptor.digest, never))?.size, layer.bytes.length)
    await waitFor('the layer is told of', () => held.has(digestKey(layer.descriptor.digest)))
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
