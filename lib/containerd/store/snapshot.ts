import { isDeepStrictEqual } from 'node:util'
import type { Digest } from '../../oci/digest.ts'
import { digestKey, type Key, tagKey } from '../../oci/key.ts'
import { admittedNames, type Policy } from '../../oci/policy.ts'
import { formatReference, fullReferenceOf, type TaggedReference } from '../../oci/reference.ts'
import { type WalkProblem, walkHeld } from '../../store/walk.ts'
import type { ContainerdClient, ContainerdImage } from '../client/client.ts'
import type { ContentInfo } from '../client/content.ts'
import { unless } from '../client/error.ts'

/** The most bytes of manifests to keep between two snapshots: some 2000 images with an index of several platforms each. */
const MANIFEST_CACHE_LIMIT = 16 * 1024 * 1024

/** The content of a namespace at one moment. */
export interface Snapshot {
  /** The digests that exist and are reachable from an image, and the tags whose target exists. */
  readonly keys: ReadonlySet<Key>
  /** The media types that images give their content. */
  readonly mediaTypes: ReadonlyMap<Digest, string>
  /** Digests that exist only for images that the policy does not admit. */
  readonly withheld: ReadonlySet<Digest>
  /** All content, in images or not, with its size in bytes. */
  readonly sizes: ReadonlyMap<Digest, number>
  /** Whether anything may differ from the previous snapshot. */
  readonly changed: boolean
}

/** Decides which content of a namespace counts. */
export interface SnapshotRules {
  /** Decides which images count; a walk of the others only finds what to withhold. */
  readonly admits: Policy['admits']
  /** Decides which content does not count, by its labels. */
  readonly withholds: (labels: ContentInfo['labels']) => boolean
}

/**
 * Takes snapshots of a namespace: two lists, and a walk from every image's target if one of the lists has changed. A layer that two
 * images share stays as long as either does, since a snapshot is a set and not a sum of events.
 *
 * @param onProblem called once for each problem while it lasts
 * @returns a function that takes one; it throws what the client throws, or the signal's reason
 */
export function createSnapshotTaker(
  client: Pick<ContainerdClient, 'images' | 'listContent' | 'readContent'>,
  { admits, withholds }: SnapshotRules,
  onProblem: (problem: WalkProblem) => void,
) {
  let last: { readonly snapshot: Snapshot; readonly images: readonly ContainerdImage[] } | undefined
  let manifests = new Map<Digest, Uint8Array>()
  let told = new Set<string>()

  async function walk(images: readonly ContainerdImage[], sizes: ReadonlyMap<Digest, number>, signal: AbortSignal) {
    const kept = new Map<Digest, Uint8Array>()
    let keptBytes = 0
    const source = {
      describe: async (digest: Digest) => sizes.get(digest),
      async read(digest: Digest) {
        const size = sizes.get(digest)
        if (size === undefined) return undefined
        const bytes = manifests.get(digest) ?? (await readSmall(client, digest, size, signal))
        if (bytes !== undefined && keptBytes + bytes.length <= MANIFEST_CACHE_LIMIT) {
          kept.set(digest, bytes)
          keptBytes += bytes.length
        }
        return bytes
      },
    }
    const problems = new Set<string>()
    const noteProblem = (found: WalkProblem) => {
      const text = `${found.descriptor.digest} ${found.problem}`
      if (!told.has(text) && !problems.has(text)) onProblem(found)
      problems.add(text)
    }
    const reach = async (from: readonly ContainerdImage[]) => {
      const mediaTypes = new Map<Digest, string>()
      const targets = from.map(({ target }) => target)
      for await (const { digest, mediaType } of walkHeld(targets, source, { signal, onProblem: noteProblem })) {
        mediaTypes.set(digest, mediaType)
      }
      return mediaTypes
    }
    const { admitted, refused } = sortOut(images, admits)
    const mediaTypes = await reach(admitted)
    const withheld = new Set((await reach(refused)).keys()).difference(mediaTypes)
    manifests = kept
    told = problems
    return { keys: keysOf(admitted, mediaTypes), mediaTypes, withheld }
  }

  return async (signal: AbortSignal): Promise<Snapshot> => {
    const images = (await client.images(signal)).sort((a, b) => (a.name < b.name ? -1 : 1))
    const sizes = new Map<Digest, number>()
    for await (const { digest, size, labels } of client.listContent(signal)) {
      if (!withholds(labels)) sizes.set(digest, size)
    }
    if (last !== undefined && isDeepStrictEqual([last.images, last.snapshot.sizes], [images, sizes])) {
      return { ...last.snapshot, changed: false }
    }
    const snapshot = { ...(await walk(images, sizes, signal)), sizes, changed: true }
    last = { snapshot, images }
    return snapshot
  }
}

/**
 * An image's name as a tag, if it is one. containerd's names are free text: CRI makes `sha256:<config>` and `repository@digest`
 * beside the tag, and nobody can ask for a reference that is not in its full normal form.
 */
export function tagOf(name: string): TaggedReference | undefined {
  const { registry, repository, tag, digest } = fullReferenceOf(name) ?? {}
  if (registry === undefined || repository === undefined || tag === undefined || digest !== undefined) return undefined
  const reference = { registry, repository, tag }
  return formatReference(reference) === name ? reference : undefined
}

/**
 * Reads all of a small blob.
 *
 * @param size in bytes, as containerd says
 * @returns `undefined` if it is no longer there
 * @throws {ContainerdError} and the signal's reason
 */
export async function readSmall(
  client: Pick<ContainerdClient, 'readContent'>,
  digest: Digest,
  size: number,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(size)
  const read = async () => {
    let at = 0
    for await (const piece of client.readContent(digest, { offset: 0, size }, signal)) {
      bytes.set(piece, at)
      at += piece.length
    }
    return bytes.subarray(0, at)
  }
  return await unless('not-found', read())
}

/** Splits images by the policy, which looks at all names of a target together. */
function sortOut(
  images: readonly ContainerdImage[],
  admits: Policy['admits'],
): { admitted: ContainerdImage[]; refused: ContainerdImage[] } {
  const admitted: ContainerdImage[] = []
  const refused: ContainerdImage[] = []
  for (const named of Map.groupBy(images, ({ target }) => target.digest).values()) {
    const names = admittedNames(
      named.map(({ name }) => name),
      admits,
    )
    if (names === undefined) refused.push(...named)
    else admitted.push(...named.filter(({ name }) => names.includes(name)))
  }
  return { admitted, refused }
}

function keysOf(images: readonly ContainerdImage[], held: ReadonlyMap<Digest, string>): Set<Key> {
  const keys = new Set<Key>(held.keys().map(digestKey))
  for (const { name, target } of images) {
    const tag = held.has(target.digest) ? tagOf(name) : undefined
    if (tag !== undefined) keys.add(tagKey(tag))
  }
  return keys
}
