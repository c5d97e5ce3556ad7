import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../observe/log.ts'
import type { Readiness } from '../../observe/readiness.ts'
import { type Digest, isDigest } from '../../oci/digest.ts'
import { digestKey } from '../../oci/key.ts'
import { mayBeManifest, sniffManifest } from '../../oci/manifest.ts'
import { MANIFEST_SIZE_LIMIT, OCTET_STREAM } from '../../oci/media-type.ts'
import type { Policy } from '../../oci/policy.ts'
import { formatReference } from '../../oci/reference.ts'
import { orAborted } from '../../platform/abort.ts'
import { BoundedMap } from '../../platform/bounded-map.ts'
import { FileSource } from '../../platform/file-source.ts'
import { exactSource } from '../../store/exact-source.ts'
import { ContentFeed } from '../../store/feed.ts'
import { type ContentStore, partOf } from '../../store/store.ts'
import type { ContainerdClient } from '../client/client.ts'
import type { ContentInfo } from '../client/content.ts'
import { ContainerdError } from '../client/error.ts'
import type { ContainerdEvent } from '../client/events.ts'
import { sourcesOfLabels } from '../probe-name.ts'
import { createContentFiles } from './files.ts'
import { createObserver, type ObserverOptions } from './observer.ts'
import { Pulling } from './pulling.ts'
import { createSnapshotTaker, readSmall } from './snapshot.ts'

/**
 * Events that may change what is held. containerd reports created content since 2.1, and never content that its garbage
 * collection removes.
 */
const TOPICS = ['/images/create', '/images/update', '/images/delete', '/content/create', '/content/delete'] as const

/** How many media types are kept of what no image names yet; each takes a few dozen bytes. */
const SNIFFED_LIMIT = 4096
/** How many bytes of content to read to see whether it may be a manifest. */
const SNIFFED_HEAD = 64

/**
 * For how long an answer of containerd counts, in milliseconds, while the blob's file is there and no event tells otherwise: a blob is
 * asked for piece by piece, all the time that a pull takes. Nothing tells when content goes whose file another namespace keeps.
 */
const ANSWER_LIFE = 10_000
/** How many of them are kept. */
const ANSWER_LIMIT = 1_024

/**
 * Waits until containerd says that it has complete content, in milliseconds: its database follows its files after some
 * milliseconds on an idle disk. A call costs more than a later answer.
 */
const DATABASE_DELAYS: readonly number[] = [8, 16, 32, 64, 128, 256, 512, 1024]

/** The most digests to keep that pulls need: more than the layers of all simultaneous pulls. */
const NEEDED_LIMIT = 4_096
/** The prefix of the labels in which containerd notes the content of a manifest before it asks for it. */
const CHILD_LABEL = 'containerd.io/gc.ref.content.'

type Held = Pick<ContentInfo, 'digest' | 'size'>

export interface ContainerdStoreOptions extends ObserverOptions {
  /** containerd's content root as this process sees it; if `undefined`, the store asks containerd. */
  readonly contentRoot?: string | undefined
  /** Decides which images are held; by default all. */
  readonly admits?: Policy['admits']
  /**
   * Whether `admits` admits images of a host and repository; missing if it refuses no image. If there is one, content that no image
   * names may belong to a refused image (that is being pulled, or was removed and not collected yet). Then it is held only if
   * {@link ContentStore.expect} announced it and containerd has noted that it needs it for an image from there: what asked for it
   * may not be containerd.
   */
  readonly admitsSource?: ((host: string, repository: string) => boolean) | undefined
  /** Decides by containerd's labels which content is not held, whatever images name it; by default none. */
  readonly withholds?: (labels: ContentInfo['labels']) => boolean
}

/**
 * The content of one containerd namespace: what containerd says is held in that namespace, so that an isolated one
 * (`content_sharing_policy`) keeps its content to itself although the files are shared. The bytes come from containerd's files
 * where this process can read them. Then containerd need not be asked for each request: without a file nothing is held, and
 * what an image holds is held until an event tells otherwise, as long as its file is there, and while containerd does not answer.
 *
 * Observing starts at once and goes on until {@link ContentStore.close}, through restarts of containerd: while it is
 * away, watchers hear of no change. The client's connection stays open, it belongs to the caller.
 */
export function createContainerdStore(
  {
    client,
    log,
    readiness,
  }: { readonly client: ContainerdClient; readonly log: Logger; readonly readiness?: Readiness },
  options: ContainerdStoreOptions = {},
): ContentStore {
  const { admits = () => true, admitsSource, withholds = () => false } = options
  const feed = new ContentFeed()
  const files = createContentFiles({ namespace: client.namespace, onContent, log })
  const takeSnapshot = createSnapshotTaker(client, { admits, withholds }, ({ descriptor, problem }) =>
    log.warn('containerd content left out', { digest: descriptor.digest, mediaType: descriptor.mediaType, problem }),
  )
  const pulling = new Pulling()
  const needed = new BoundedMap<true, Digest>(NEEDED_LIMIT)
  const sniffed = new BoundedMap<string>(SNIFFED_LIMIT)
  const closing = new AbortController()
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>()
  let mediaTypes: ReadonlyMap<Digest, string> = new Map()
  let withheld: ReadonlySet<Digest> = new Set()
  /** By the last look at everything. */
  let sizes: ReadonlyMap<Digest, number> = new Map()
  const answers = new BoundedMap<{ size: number; until: number }, Digest>(ANSWER_LIMIT)
  /** What is being pulled and containerd will be asked for in a moment. */
  const asking = new Set<Digest>()
  let root = options.contentRoot

  const observer = createObserver(
    {
      log,
      readiness,
      async subscribe(signal) {
        signal.addEventListener('abort', () => {
          // If containerd is only slow, it goes on writing.
          const isSlow = signal.reason instanceof ContainerdError && signal.reason.code === 'timeout'
          if (!isSlow) files.lost()
        })
        const events = await client.subscribe(TOPICS, signal)
        // Asked again after each restart, which may have moved it.
        root = options.contentRoot ?? (await client.contentRoot(signal))
        return worthALook(events)
      },
      async reconcile(signal) {
        await files.check(root)
        const begun = performance.now()
        const snapshot = await takeSnapshot(signal)
        files.tell(snapshot.sizes.size > 0)
        mediaTypes = snapshot.mediaTypes
        withheld = snapshot.withheld
        sizes = snapshot.sizes
        const complete = pulling.complete(snapshot, begun)
        const early = complete.filter(isOffered)
        // No event may have told of it, or it was there before.
        for (const digest of complete) if (!isOffered(digest)) void ask(digest)
        feed.replace(early.length === 0 ? snapshot.keys : new Set([...snapshot.keys, ...early.map(digestKey)]))
        answer()
        return snapshot.changed
      },
      hearsAll: () => files.areWatched,
    },
    options,
  )

  /** Passes on the events that call for a look at everything: a digest that is being pulled is asked for alone. */
  async function* worthALook(events: AsyncIterable<ContainerdEvent>): AsyncGenerator<ContainerdEvent, void> {
    for await (const event of events) {
      const digest = event.digest !== undefined && isDigest(event.digest) ? event.digest : undefined
      if (digest !== undefined && pulling.has(digest)) onContent(digest, event.topic === '/content/delete')
      else {
        doubt(digest)
        yield event
      }
    }
  }

  /** A file of containerd's content has come or gone, or containerd says so, or that the content has gone from the namespace. */
  function onContent(digest: Digest, isGone = false): void {
    const isHeld = feed.held.has(digestKey(digest))
    // The file and containerd tell the same thing, one a moment after the other.
    if (pulling.has(digest) && isHeld && !isGone && files.sizeOf(digest) !== undefined) return
    doubt(digest)
    if (pulling.has(digest)) void ask(digest)
    // The garbage collection took it, which no event of containerd tells. A look that is going on may not know yet that it was held.
    else if (files.sizeOf(digest) === undefined || isHeld) observer.soon()
  }

  /** Forgets what containerd has said of a digest, or of all. */
  function doubt(digest: Digest | undefined): void {
    if (digest === undefined) answers.clear()
    else answers.delete(digest)
  }

  /** Asks containerd whether it has what is being pulled, and tells it. */
  async function ask(digest: Digest): Promise<void> {
    const key = digestKey(digest)
    try {
      for (const wait of DATABASE_DELAYS) {
        if (asking.has(digest)) return
        asking.add(digest)
        await delay(wait, undefined, { signal: closing.signal })
        asking.delete(digest)
        if (!isOffered(digest)) learn(await askInfo(digest, closing.signal))
        const isThere = (await infoOf(digest, closing.signal)) !== undefined
        // A look at everything may have been faster, and have found it in an image.
        if (!pulling.has(digest)) return
        if (isThere) pulling.found(digest)
        else if (!feed.held.has(key)) continue
        return feed.update({ [isThere ? 'added' : 'removed']: [key] })
      }
    } catch (error) {
      if (!closing.signal.aborted) log.debug('cannot ask for content that is being pulled', { digest, error })
    }
  }

  /** Whether content may be offered, if it is there: as part of an image, or where no image needs to name it. */
  function isOffered(digest: Digest): boolean {
    if (withheld.has(digest)) return false
    if (admitsSource === undefined || mediaTypes.has(digest)) return true
    return pulling.has(digest) && needed.get(digest) === true
  }

  /** Notes that pulls need content and its children, if containerd says that it came from where images are admitted. */
  function learn(info: ContentInfo | undefined): void {
    if (info === undefined) return
    if (!sourcesOfLabels(info.labels).some(({ host, repository }) => admitsSource?.(host, repository))) return
    const children = Object.entries(info.labels).filter(([label]) => label.startsWith(CHILD_LABEL))
    for (const digest of [info.digest, ...children.map(([, child]) => child)])
      if (isDigest(digest)) needed.set(digest, true)
  }

  async function infoOf(digest: Digest, signal: AbortSignal): Promise<Held | undefined> {
    if (!isOffered(digest)) return undefined
    if (files.areReadable) {
      const size = files.sizeOf(digest)
      signal.throwIfAborted()
      // A look that knows of it and a file that is missing do not agree: containerd's files may be elsewhere.
      if (size === undefined && !sizes.has(digest)) return undefined
      if (size !== undefined && size === knownSize(digest)) return { digest, size }
    }
    return await askInfo(digest, signal)
  }

  /** Asks containerd what it has under a digest, unless that is withheld, and remembers the answer. */
  async function askInfo(digest: Digest, signal: AbortSignal): Promise<ContentInfo | undefined> {
    const asked = { size: 0, until: 0 }
    answers.set(digest, asked)
    const info = await client.contentInfo(digest, signal)
    if (info === undefined || withholds(info.labels)) return undefined
    // An event that came before the answer has taken it out of the map.
    asked.size = info.size
    asked.until = performance.now() + ANSWER_LIFE
    return info
  }

  /** The size in bytes of what this namespace is known to hold, if its file is still there; containerd is not asked. */
  function knownSize(digest: Digest): number | undefined {
    const { size, until = 0 } = answers.get(digest) ?? {}
    if (performance.now() < until) return size
    // The collection takes nothing that an image holds, and of images that go there are events. A containerd that does not answer
    // takes nothing at all.
    const isKnown = observer.isSettled || !observer.isUp
    return isKnown && mediaTypes.has(digest) && !pulling.has(digest) ? sizes.get(digest) : undefined
  }

  /** For content that no image names (yet): it may be a manifest that is being pulled. */
  async function sniff({ digest, size }: Held, signal: AbortSignal): Promise<string | undefined> {
    const known = sniffed.get(digest)
    if (known !== undefined || size > MANIFEST_SIZE_LIMIT) return known ?? OCTET_STREAM
    const head = await readSmall(client, digest, Math.min(size, SNIFFED_HEAD), signal)
    // Layers of a few MiB are many, and would all go through the socket.
    const bytes = head && mayBeManifest(head) ? await readSmall(client, digest, size, signal) : head
    if (bytes === undefined) return undefined
    const mediaType = sniffManifest(bytes) ?? OCTET_STREAM
    sniffed.set(digest, mediaType)
    return mediaType
  }

  return {
    get isUp() {
      return observer.isUp
    },

    async resolve(reference, signal) {
      const image = await client.image(formatReference(reference), signal)
      if (image === undefined) return undefined
      return (await infoOf(image.target.digest, signal))?.digest
    },

    async describe(digest, signal) {
      const info = await infoOf(digest, signal)
      if (info === undefined) return undefined
      const mediaType = mediaTypes.get(digest) ?? (await sniff(info, signal))
      return mediaType === undefined ? undefined : { mediaType, digest, size: info.size }
    },

    async open(digest, range, signal) {
      const info = await infoOf(digest, signal)
      if (info === undefined) return undefined
      const { start, length } = partOf(range, info.size)
      const path = files.find(digest, info.size)
      if (path !== undefined) return new FileSource({ path, start, length })
      const read = (signal: AbortSignal) => client.readContent(digest, { offset: start, size: length }, signal)
      return exactSource(read, length, signal)
    },

    arriving: (digest) => (isOffered(digest) ? files.arriving(digest) : undefined),

    expect(digest, kind) {
      pulling.add(digest)
      if (kind === 'blob') sniffed.set(digest, OCTET_STREAM)
      else sniffed.delete(digest)
      if (!files.areWatched) observer.soon()
    },

    async *watch(signal) {
      // An abort ends the feed's watch at once.
      await orAborted(answered, signal)
      yield* feed.watch(signal)
    },

    async close() {
      closing.abort(new Error('the content store was closed'))
      await observer.close()
      files.close()
      feed.close()
      answer()
    },
  }
}
