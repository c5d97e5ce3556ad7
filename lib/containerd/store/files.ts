import { closeSync, existsSync, fstatSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../../observe/log.ts'
import { algorithmOf, type Digest, hexOf, isDigest } from '../../oci/digest.ts'
import type { Arrival } from '../../store/arrival.ts'
import { createDirectoryWatcher, type DirectoryEvent } from '../../store/directory-watcher.ts'
import { GrowingFile } from './growing-file.ts'

/**
 * Waits for the files of an ingest that has just begun, in milliseconds, 8 s in all: containerd first makes its directory, then in
 * it `ref`, `total` and finally `data`, in less than a millisecond on an idle machine, but in seconds if its disk stalls.
 */
const INGEST_DELAYS: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096]

/** The places of content in containerd's root, during writing and afterwards, below those in which containerd makes them. */
const WATCHED = ['.', 'ingest', 'blobs', 'blobs/sha256', 'blobs/sha512']

interface Ingest {
  readonly digest: Digest
  readonly size: number | undefined
}

/**
 * containerd's content as files, if this process can read them; it does not look at them yet. containerd keeps content in
 * `blobs/<algorithm>/<hex>`. It writes into `ingest/<sha256 of ref>/data`, and moves that file when it is complete
 * (containerd, plugins/content/local). File calls are synchronous, since each request and each write of containerd causes some:
 * hops through the pool of threads would take ten times as long.
 *
 * @param dependencies `onContent` is called with each digest, of any namespace, whose file has come or gone
 */
export function createContentFiles(dependencies: {
  readonly namespace: string
  readonly onContent: (digest: Digest) => void
  readonly log: Logger
}) {
  const { namespace, onContent, log } = dependencies
  /** The directory of readable files, if they are readable. */
  let root: string | undefined
  let checked: { readonly root: string | undefined; readonly reason: string | undefined } | undefined
  let told: string | undefined
  /** By the names of their directories; `undefined` for anything but a digest of this namespace, and for one not known yet. */
  const ingests = new Map<string, Ingest | undefined>()
  /** One scan for all events of a turn: thousands of downloads may begin and end at the same time. */
  let isScanDue = false
  const arrivals = new Set<GrowingFile>()
  const unwatched = new Set<string>()
  const closing = new AbortController()
  const watcher = createDirectoryWatcher(hear, (path, error) => {
    if (!unwatched.has(path)) log.warn('containerd content not watched', { path, error })
    unwatched.add(path)
  })

  function hear({ directory, name, kind }: DirectoryEvent): void {
    if (kind !== 'rename') return
    const parent = basename(directory)
    if (parent === 'ingest') {
      if (!isScanDue) setImmediate(scan)
      isScanDue = true
    } else if (isDigest(`${parent}:${name}`)) report(`${parent}:${name}` as Digest)
    // Not content, but a place of content.
    else if (root !== undefined) {
      watchBelow(root).catch((error: unknown) =>
        log.debug('containerd content cannot be watched', { directory, error }),
      )
    }
  }

  /** Nobody else catches what is thrown during an event. */
  function report(digest: Digest): void {
    try {
      onContent(digest)
    } catch (error) {
      log.warn('containerd content cannot be looked at', { digest, error })
    }
  }

  function scan(): void {
    isScanDue = false
    if (root === undefined) {
      ingests.clear()
      return
    }
    const directory = join(root, 'ingest')
    const names = new Set(namesIn(directory))
    for (const name of ingests.keys()) if (!names.has(name)) ingests.delete(name)
    for (const name of names) {
      if (ingests.has(name)) continue
      ingests.set(name, undefined)
      void identify(name, join(directory, name))
    }
  }

  function namesIn(directory: string): string[] {
    try {
      return readdirSync(directory)
    } catch (error) {
      log.debug('directory of containerd cannot be read', { directory, error })
      return []
    }
  }

  async function identify(name: string, directory: string): Promise<void> {
    const found = await readIngest(directory, namespace, closing.signal).catch((error: unknown) => {
      log.debug('ingest of containerd cannot be read', { directory, error })
      return undefined
    })
    if (ingests.has(name)) ingests.set(name, found)
    forgetMissing(name, directory)
  }

  /** Forgets an ingest that has gone without an event: Bun 1.4.5 leaves out an event up to 2 ms after another of the same name. */
  function forgetMissing(name: string, directory: string): boolean {
    return !existsSync(directory) && ingests.delete(name)
  }

  /** Ends all arrivals, because containerd went away and nobody writes any more. */
  function lost(): void {
    for (const arrival of arrivals) arrival.close()
  }

  async function watchBelow(next: string): Promise<void> {
    // containerd makes it at its start, and `blobs` with the first blob.
    await access(join(next, 'ingest'), constants.R_OK | constants.X_OK)
    const added = await watcher.cover(WATCHED.map((path) => join(next, path)))
    if (next !== root) return
    // What is in a directory that containerd has made since has come without an event.
    for (const directory of added) for (const name of namesIn(directory)) hear({ directory, name, kind: 'rename' })
  }

  return {
    /** Whether events report all content that comes and goes. */
    get areWatched(): boolean {
      return root !== undefined && watcher.watches(join(root, 'ingest')) && watcher.watches(join(root, 'blobs/sha256'))
    },

    /** Checks whether files below this root are readable. */
    async check(next: string | undefined): Promise<void> {
      const reason =
        next === undefined
          ? 'containerd does not say where its content is'
          : await watchBelow(next).then(
              () => undefined,
              (error: unknown) => (error instanceof Error ? error.message : String(error)),
            )
      checked = { root: next, reason }
      root = reason === undefined ? next : undefined
      if (root === undefined) await watcher.cover([])
      scan()
    },

    /**
     * Logs a new answer of `check`. Without content there may be no directory yet (containerd 2 makes it with the first
     * blob), and it is too early to say that nothing can be read.
     */
    tell(hasContent: boolean): void {
      const text = JSON.stringify(checked)
      if (checked === undefined || told === text || (root === undefined && !hasContent)) return
      told = text
      if (root !== undefined) log.info('containerd content is read from files', { root })
      else log.warn('containerd content is read through the socket', { ...checked })
    },

    /** Whether files are readable. */
    get areReadable(): boolean {
      return root !== undefined
    },

    /** The size of a digest's file in bytes, if there is one. Says nothing about namespaces. */
    sizeOf(digest: Digest): number | undefined {
      if (root === undefined) return undefined
      const found = statSync(blobPath(root, digest), { throwIfNoEntry: false })
      return found?.isFile() === true ? found.size : undefined
    },

    /** A digest's file, if it is readable and has that size in bytes. Says nothing about namespaces. */
    find(digest: Digest, size: number): string | undefined {
      if (root === undefined) return undefined
      const path = blobPath(root, digest)
      try {
        // Opens the file, since nothing else proves that it can be opened.
        const file = openSync(path, 'r')
        try {
          const found = fstatSync(file)
          if (found.isFile() && found.size === size) return path
          log.warn('containerd content file has another size than containerd says', { path, size, found: found.size })
        } finally {
          closeSync(file)
        }
      } catch (error) {
        log.debug('containerd content file is not readable', { path, error })
      }
      return undefined
    },

    /** The digest, if the namespace is writing it. */
    arriving(digest: Digest): Arrival | undefined {
      const [name, ingest] = [...ingests].find(([, ingest]) => ingest?.digest === digest) ?? []
      if (root === undefined || name === undefined || ingest === undefined) return undefined
      const directory = join(root, 'ingest', name)
      if (forgetMissing(name, directory)) return undefined
      const place = { growing: join(directory, 'data'), complete: blobPath(root, digest), size: ingest.size }
      const arrival = new GrowingFile(place)
      arrivals.add(arrival)
      void arrival.ended.then(() => arrivals.delete(arrival))
      return arrival
    },

    lost,

    close(): void {
      closing.abort()
      lost()
      watcher.close()
    },
  }
}

/** Where containerd keeps the content of a digest, below the root of its content store. */
export function blobPath(root: string, digest: Digest): string {
  return join(root, 'blobs', algorithmOf(digest), hexOf(digest))
}

/** The content that a pull of this namespace writes into a directory; `undefined` for anything else, and if it is gone. */
async function readIngest(directory: string, namespace: string, signal: AbortSignal): Promise<Ingest | undefined> {
  const data = join(directory, 'data')
  for (const wait of INGEST_DELAYS) {
    if (existsSync(data)) break
    await delay(wait, undefined, { signal })
  }
  if (!existsSync(data)) return undefined
  const digest = digestOfRef(readFileSync(join(directory, 'ref'), 'utf8'), namespace)
  if (digest === undefined) return undefined
  const file = join(directory, 'total')
  const total = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
  return { digest, size: Number.isSafeInteger(total) && total > 0 ? total : undefined }
}

/**
 * The digest of an ingest, if it is known and in the namespace. containerd writes
 * `<namespace>/<number>/<ref>`, and pulls give refs such as `layer-<digest>` (core/remotes, `MakeRefKey`).
 */
export function digestOfRef(text: string, namespace: string): Digest | undefined {
  const [owner, , ref = '', ...more] = text.split('/')
  const digest = ref.slice(ref.indexOf('-') + 1)
  return owner === namespace && more.length === 0 && isDigest(digest) ? digest : undefined
}
