import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../observe/log.ts'
import { Readiness } from '../../observe/readiness.ts'
import type { Descriptor, Digest } from '../../oci/digest.ts'
import { digestKey, type Key, tagKey } from '../../oci/key.ts'
import { MANIFEST_SIZE_LIMIT } from '../../oci/media-type.ts'
import type { Policy } from '../../oci/policy.ts'
import { bounded, orAborted } from '../../platform/abort.ts'
import { FileSource } from '../../platform/file-source.ts'
import { createDirectoryWatcher } from '../directory-watcher.ts'
import { ContentFeed } from '../feed.ts'
import { unlessMissing } from '../missing.ts'
import { type ContentStore, partOf } from '../store.ts'
import { walkHeld } from '../walk.ts'
import { admittedEntries, type LayoutEntry, locateBlob, namesIn, readFileUpTo, readLayout } from './index.ts'

export { LayoutError } from './index.ts'

/** In milliseconds. */
const TIMES = {
  /**
   * Between two looks at whether the layout has changed. They catch changes without events: on network file systems, and without
   * inotify watches.
   */
  lookInterval: 30_000,
  /**
   * From the first event to the reading of the layout: a tool that adds an image makes a burst of events, and a long copy is seen
   * while it runs.
   */
  settleTime: 300,
}

export interface LayoutOptions extends Partial<typeof TIMES> {
  readonly log: Logger
  readonly readiness?: Readiness
  /** Which images the store holds; all if missing. */
  readonly admits?: Policy['admits']
}

/**
 * How many readings in a row must fail before the layout counts as unreadable: ORAS rewrites index.json in place, so one
 * reading can find half of it.
 */
const FAILURES_THAT_COUNT = 2

/** The directories that change with the names in them. */
const DIRECTORIES = ['.', 'blobs', 'blobs/sha256', 'blobs/sha512'] as const

/** Milliseconds for which a second change may leave no trace after the first one: file systems count time in steps. */
const FRESH = 2_000

interface State {
  readonly root: string
  readonly held: ReadonlyMap<Digest, Descriptor>
  readonly tags: ReadonlyMap<Key, Digest>
}

/**
 * Opens an OCI image layout directory as a store, and keeps up with its changes until it is closed.
 *
 * It holds the content that index.json leads to, if the file is there and has the size that its descriptor says. Other files in
 * `blobs/` do not count. If the layout becomes unreadable later, the store serves the last good state, and `isUp` says so.
 *
 * A tag resolves if an entry is annotated with its full name (registry, repository and tag) in `io.containerd.image.name` or
 * `org.opencontainers.image.ref.name`. A bare `latest` does not tell its repository, so such an entry is served by digest only.
 * To give a full name:
 * - skopeo and buildah: `oci:DIR:docker.io/library/alpine:3.20` as the destination
 * - umoci: `--image DIR:docker.io/library/alpine:3.20`
 * - ORAS: `oras tag --oci-layout DIR:TAG docker.io/library/alpine:3.20` (after `DIR:` itself, ORAS takes only a tag)
 * - `docker save` writes both annotations by itself
 *
 * @throws {LayoutError} if the directory is not an OCI image layout; the file system's error if it cannot be read
 */
export async function openLayoutStore(dir: string, options: LayoutOptions): Promise<ContentStore> {
  const { log, readiness = new Readiness(), admits = () => true } = options
  const { lookInterval, settleTime } = { ...TIMES, ...options }
  const feed = new ContentFeed()
  const closing = new AbortController()
  const once = createOnce()
  /** Resolves with the first event after the last reading began. */
  let changed = Promise.withResolvers<true>()
  const watcher = createDirectoryWatcher(
    () => changed.resolve(true),
    (path, error) => {
      if (once(`watch ${path}`)) log.warn('layout cannot be watched', { path, error, lookInterval })
    },
  )
  const readable = readiness.wait()
  /** What {@link traceOf} gave when all was last read. */
  let trace: string | undefined

  let state: State
  try {
    trace = await traceOf(dir)
    state = await read()
  } catch (error) {
    watcher.close()
    throw error
  }
  publish()
  const following = follow().catch((error: unknown) => {
    if (!closing.signal.aborted) throw error
  })

  /** Watches before it reads, so that it misses no change in between. */
  async function read(): Promise<State> {
    await watcher.cover(DIRECTORIES.map((path) => join(dir, path)))
    const { root, entries: all } = await readLayout(dir)
    const entries = admittedEntries(all, admits)
    const held = new Map<Digest, Descriptor>()
    const source = {
      describe: async (digest: Digest) => (await fileOf(root, digest))?.size,
      async read(digest: Digest) {
        const file = await fileOf(root, digest)
        return file && (await readFileUpTo(file.path, MANIFEST_SIZE_LIMIT))
      },
    }
    const walk = walkHeld(
      entries.map((entry) => entry.descriptor),
      source,
      {
        signal: closing.signal,
        onProblem: ({ descriptor, problem }) => {
          if (once(`${descriptor.digest} ${problem}`))
            log.warn('layout content left out', { dir, ...descriptor, problem })
        },
      },
    )
    for await (const descriptor of walk) held.set(descriptor.digest, descriptor)
    const names = namesIn(entries)
    for (const entry of names.unnamed) tellUnnamed(entry)
    for (const name of names.ambiguous) {
      if (once(`ambiguous ${name}`)) log.warn('layout name is ambiguous, not served', { dir, name })
    }
    return { root, held, tags: new Map([...names.tags].filter(([, digest]) => held.has(digest))) }
  }

  async function fileOf(root: string, digest: Digest) {
    const file = await locateBlob(root, digest)
    if (file !== 'outside') return file
    if (once(`outside ${digest}`))
      log.warn('layout blob left out: it links to a file outside of the layout', { dir, digest })
    return undefined
  }

  function tellUnnamed({ descriptor: { digest }, names }: LayoutEntry): void {
    if (!once(`unnamed ${digest} ${names.join(' ')}`)) return
    const hint =
      'annotate it with its full name, registry/repository:tag, as in skopeo copy ... oci:DIR:docker.io/library/alpine:3.20'
    log.info('layout entry is served by digest only', { dir, digest, names, hint })
  }

  function publish(): void {
    feed.replace(new Set([...[...state.held.keys()].map(digestKey), ...state.tags.keys()]))
  }

  /** Reads the layout again when it may have changed: one reading at a time, however slow it is and however many events come. */
  async function follow(): Promise<void> {
    const { signal } = closing
    let failures = 0
    for (;;) {
      const isFirstFailure = failures > 0 && failures < FAILURES_THAT_COUNT
      const patience = isFirstFailure ? 0 : lookInterval
      const hasChanged = await bounded(patience, signal, (over) => orAborted(changed.promise, over))
      if (hasChanged || isFirstFailure) await delay(settleTime, undefined, { signal })
      signal.throwIfAborted()
      // An event during the reading may be about a file that had been read already.
      changed = Promise.withResolvers()
      // After an event, and after a reading that failed, all is read, even if nothing seems to have changed.
      const before = hasChanged ? undefined : trace
      trace = undefined
      try {
        const now = await traceOf(dir)
        if (now === undefined || now !== before) {
          state = await read()
          publish()
        }
        trace = now
        if (readable.reasons.length > 0) log.info('layout is readable again', { dir })
        readable.over()
        failures = 0
      } catch (error) {
        signal.throwIfAborted()
        if (++failures < FAILURES_THAT_COUNT) continue
        const reason = error instanceof Error ? error.message : String(error)
        if (!readable.reasons.includes(reason))
          log.error('layout is unreadable, serving what was there before', { dir, error })
        readable.for(reason)
      }
    }
  }

  /** The descriptor and the file of a digest, if it is held and its file still has the right size. */
  async function find(digest: Digest, signal: AbortSignal) {
    signal.throwIfAborted()
    const { root, held } = state
    const descriptor = held.get(digest)
    const file = descriptor && (await fileOf(root, digest))
    signal.throwIfAborted()
    return descriptor !== undefined && file?.size === descriptor.size ? { descriptor, path: file.path } : undefined
  }

  return {
    get isUp() {
      return readable.reasons.length === 0
    },
    async resolve(reference, signal) {
      const digest = state.tags.get(tagKey(reference))
      return digest !== undefined && (await find(digest, signal)) !== undefined ? digest : undefined
    },
    async describe(digest, signal) {
      return (await find(digest, signal))?.descriptor
    },
    async open(digest, range, signal) {
      const found = await find(digest, signal)
      return found && new FileSource({ path: found.path, ...partOf(range, found.descriptor.size) })
    },
    // Content that is being written is in no index yet, so the store cannot tell whether the policy admits it.
    arriving: () => undefined,
    watch: (signal) => feed.watch(signal),
    async close() {
      closing.abort()
      watcher.close()
      feed.close()
      await following
    },
  }
}

/**
 * What changes with whatever tools do to a layout, except overwrite a blob in place; `undefined` if it changed a moment ago, so that
 * another change might leave no trace.
 */
async function traceOf(dir: string): Promise<string | undefined> {
  const paths = ['oci-layout', 'index.json', ...DIRECTORIES].map((path) => join(dir, path))
  const found = await Promise.all(paths.map((path) => unlessMissing(stat(path, { bigint: true }))))
  const newest = Math.max(...found.map((info) => Number(info?.ctimeMs ?? 0)))
  if (Math.abs(Date.now() - newest) < FRESH) return undefined
  return found.map((info) => info && [info.dev, info.ino, info.size, info.mtimeNs, info.ctimeNs].join(':')).join()
}

/** Returns true the first time that it is asked about something. */
function createOnce(): (about: string) => boolean {
  const told = new Set<string>()
  return (about) => told.size !== told.add(about).size
}
