/** A containerd without a socket, to test what the store makes of its answers. */
import assert from 'node:assert/strict'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerdClient, ContainerdImage } from '../../lib/containerd/client/client.ts'
import { ContainerdError } from '../../lib/containerd/client/error.ts'
import { type ContainerdStoreOptions, createContainerdStore } from '../../lib/containerd/store/store.ts'
import { silentLogger } from '../../lib/observe/log.ts'
import type { Digest } from '../../lib/oci/digest.ts'
import type { Key } from '../../lib/oci/key.ts'
import { unlessAborted } from '../../lib/platform/abort.ts'
import type { ContentStore } from '../../lib/store/store.ts'
import type { Content, Image } from '../fixtures/image.ts'
import { blobPath } from '../fixtures/layout.ts'

const never = new AbortController().signal

/**
 * A containerd for which a test decides what it holds, when it lists its content, and when it tells of a change.
 *
 * @param root a directory in which it keeps its content as files, as containerd does; if missing, it keeps none
 */
export function makeContainerd(root?: string) {
  const images: ContainerdImage[] = []
  const contents = new Map<Digest, Content>()
  const labels = new Map<Digest, Readonly<Record<string, string>>>()
  if (root !== undefined)
    for (const path of ['ingest', 'blobs/sha256']) mkdirSync(join(root, path), { recursive: true })
  const looks = { begun: 0, asked: 0, read: 0 }
  let tell: (digest?: Digest) => void = () => undefined
  let listing = Promise.resolve()
  function add(content: Content): void {
    const { digest } = content.descriptor
    if (root !== undefined && !contents.has(digest)) {
      writeFileSync(join(root, 'part'), content.bytes)
      renameSync(join(root, 'part'), blobPath(root, digest))
    }
    contents.set(digest, content)
  }
  function remove(digest: Digest): void {
    contents.delete(digest)
    if (root !== undefined) rmSync(blobPath(root, digest))
  }
  const unused = () => assert.fail('not to be asked')
  const client: ContainerdClient = {
    namespace: 'test',
    async contentInfo(digest) {
      looks.asked++
      const content = contents.get(digest)
      return content === undefined
        ? undefined
        : { digest, size: content.bytes.length, labels: labels.get(digest) ?? {} }
    },
    async *listContent(signal) {
      looks.begun++
      const listed = [...contents.values()]
      await unlessAborted(listing, signal)
      for (const { descriptor } of listed) yield { ...descriptor, labels: labels.get(descriptor.digest) ?? {} }
    },
    async *readContent(digest, { offset, size }) {
      const content = contents.get(digest)
      if (content === undefined) throw new ContainerdError('not-found', 'gone')
      looks.read += size
      yield content.bytes.subarray(offset, offset + size)
    },
    image: async (name) => images.find((image) => image.name === name),
    images: async () => [...images],
    async subscribe(_topics, signal) {
      const events = (async function* () {
        for (;;) {
          const { promise, resolve } = Promise.withResolvers<Digest | undefined>()
          tell = resolve
          const digest = await unlessAborted(promise, signal)
          yield digest === undefined ? { topic: '/images/update' } : { topic: '/content/create', digest }
        }
      })()
      return Object.assign(events, { cancel: () => undefined })
    },
    contentRoot: async () => root,
    version: unused,
    namespaces: unused,
    server: unused,
    deleteImage: unused,
    deleteContent: unused,
  }
  return {
    client,
    /** How many lists of all content have begun, how many single digests were asked for, and how many bytes were read. */
    looks,
    /** Like containerd before 2.1, which sends events only for images. */
    putSilently: add,
    /** Like containerd since 2.1. */
    putAndTell(content: Content) {
      add(content)
      tell(content.descriptor.digest)
    },
    put(...added: readonly Content[]) {
      for (const content of added) add(content)
      tell()
    },
    /** Like the garbage collection, for which containerd sends no event. */
    unputSilently: remove,
    /** As containerd does after it has pulled content: it notes where that came from, and what it is made of. */
    label(digest: Digest, from: { host: string; repository: string }, children: readonly Digest[] = []) {
      const named = children.map((child, at) => [`containerd.io/gc.ref.content.l.${at}`, child])
      const source = { [`containerd.io/distribution.source.${from.host}`]: from.repository }
      labels.set(digest, { ...Object.fromEntries(named), ...source })
    },
    /** Like a removal while another namespace still has the content: the file stays. */
    unputHere(digest: Digest) {
      contents.delete(digest)
      tell()
    },
    unput(digest: Digest) {
      remove(digest)
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
    /** Lets no list of content end until the returned function is called. */
    holdUp() {
      const { promise, resolve } = Promise.withResolvers<void>()
      listing = promise
      return resolve
    },
  }
}

/**
 * Runs `use` with a store on this containerd, the keys that the store has told to be held, and those that it has told to be
 * gone.
 */
export async function withStore(
  containerd: ReturnType<typeof makeContainerd>,
  options: ContainerdStoreOptions,
  use: (store: ContentStore, held: ReadonlySet<Key>, removals: readonly Key[]) => Promise<void>,
): Promise<void> {
  const store = createContainerdStore({ client: containerd.client, log: silentLogger }, { gatherFirst: 1, ...options })
  const held = new Set<Key>()
  const removals: Key[] = []
  const watching = (async () => {
    for await (const { added, removed } of store.watch(never)) {
      removals.push(...removed)
      for (const key of removed) held.delete(key)
      for (const key of added) held.add(key)
    }
  })()
  try {
    await use(store, held, removals)
  } finally {
    await store.close()
    await watching
  }
}
