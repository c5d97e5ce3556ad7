import type { Descriptor, Digest } from '../../lib/oci/digest.ts'
import { digestKey, type Key, tagKey } from '../../lib/oci/key.ts'
import type { Content, Image } from '../../lib/oci/make-image.ts'
import type { TaggedReference } from '../../lib/oci/reference.ts'
import type { ByteSource } from '../../lib/platform/byte-source.ts'
import { ContentFeed } from '../../lib/store/feed.ts'
import { type ContentStore, partOf } from '../../lib/store/store.ts'
import { MemoryWriter } from './memory-arrival.ts'

/** Bytes handed out at a time. */
const CHUNK_SIZE = 64 * 1024

/** A store to which tests add and from which they remove content. */
export interface MemoryStore extends ContentStore {
  /** Adds content, or replaces content of the same digest. */
  add(...contents: readonly Content[]): void
  /** Adds all contents of an image, and the tags that resolve to it. */
  addImage(image: Image, ...tags: readonly TaggedReference[]): void
  /** Removes content. Tags that point to it no longer resolve. */
  remove(...digests: readonly Digest[]): void
  /** Makes a tag resolve to a digest while the digest is held. */
  tag(reference: TaggedReference, digest: Digest): void
  untag(reference: TaggedReference): void
  /** Begins to write content, which is added when the writer commits it. */
  arrive(content: Content): MemoryWriter
}

/** Makes an empty store in memory, for tests and demonstrations. */
export function createMemoryStore(): MemoryStore {
  const held = new Map<Digest, Content>()
  const tags = new Map<Key, Digest>()
  const writers = new Map<Digest, MemoryWriter>()
  const feed = new ContentFeed()

  function publish(): void {
    const resolving = [...tags].filter(([, digest]) => held.has(digest)).map(([key]) => key)
    feed.replace(new Set([...[...held.keys()].map(digestKey), ...resolving]))
  }

  return {
    isUp: true,
    add(...contents) {
      for (const content of contents) held.set(content.descriptor.digest, content)
      publish()
    },
    addImage(image, ...references) {
      for (const content of image.contents) held.set(content.descriptor.digest, content)
      for (const reference of references) tags.set(tagKey(reference), image.target.digest)
      publish()
    },
    remove(...digests) {
      for (const digest of digests) held.delete(digest)
      publish()
    },
    tag(reference, digest) {
      tags.set(tagKey(reference), digest)
      publish()
    },
    untag(reference) {
      tags.delete(tagKey(reference))
      publish()
    },
    arrive(content) {
      const { digest } = content.descriptor
      const writer = new MemoryWriter(content, (isCommitted) => {
        writers.delete(digest)
        if (isCommitted) held.set(digest, content)
        publish()
      })
      writers.set(digest, writer)
      return writer
    },
    async resolve(reference, signal) {
      signal.throwIfAborted()
      const digest = tags.get(tagKey(reference))
      return digest !== undefined && held.has(digest) ? digest : undefined
    },
    async describe(digest, signal): Promise<Descriptor | undefined> {
      signal.throwIfAborted()
      return held.get(digest)?.descriptor
    },
    async open(digest, range, signal) {
      signal.throwIfAborted()
      const bytes = held.get(digest)?.bytes
      if (bytes === undefined) return undefined
      const { start, length } = partOf(range, bytes.length)
      return sourceOf(bytes.subarray(start, start + length))
    },
    arriving: (digest) => writers.get(digest)?.arrival(),
    watch: (signal) => feed.watch(signal),
    async close() {
      feed.close()
    },
  }
}

function sourceOf(bytes: Uint8Array): ByteSource {
  let rest = bytes
  return {
    async next() {
      const chunk = rest.subarray(0, CHUNK_SIZE)
      rest = rest.subarray(CHUNK_SIZE)
      return chunk.length === 0 ? undefined : chunk
    },
    cancel: async () => undefined,
  }
}
