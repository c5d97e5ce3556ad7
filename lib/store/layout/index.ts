import { accessSync, constants, realpathSync, statSync } from 'node:fs'
import { open, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import * as v from 'valibot'
import { algorithmOf, type Descriptor, type Digest, hexOf } from '../../oci/digest.ts'
import { type Key, tagKey } from '../../oci/key.ts'
import { parseDescriptor } from '../../oci/manifest.ts'
import { admittedNames, type Policy } from '../../oci/policy.ts'
import { fullReferenceOf, type TaggedReference } from '../../oci/reference.ts'
import { isMissing, unlessMissing } from '../missing.ts'

/** Largest index.json that is read, in bytes. It has room for some 100 000 entries, and a wrong file cannot fill the memory. */
const INDEX_LIMIT = 32 * 1024 * 1024

/** Largest oci-layout file that is read, in bytes. It holds one short field. */
const MARKER_LIMIT = 64 * 1024

/** Semantic versioning: additions of any 1.x can be ignored. */
const MARKER = v.object({ imageLayoutVersion: v.pipe(v.string(), v.regex(/^1\.[0-9]+\.[0-9]+$/)) })
const INDEX = v.object({ schemaVersion: v.literal(2), manifests: v.nullish(v.array(v.unknown()), []) })

/**
 * The annotations that name an entry: that of containerd and Docker, which has the full name, before that of the image-spec.
 */
const NAME_ANNOTATIONS = ['io.containerd.image.name', 'org.opencontainers.image.ref.name'] as const

/** A directory that is not, or no longer, an OCI image layout. The message says what is wrong, where, and what is expected. */
export class LayoutError extends Error {
  override readonly name = 'LayoutError'

  /** @param path the file or directory in question */
  constructor(path: string, problem: string, expected: string, cause?: unknown) {
    super(`${path}: ${problem}; expected ${expected}`, cause === undefined ? undefined : { cause })
  }
}

/** An entry of index.json: its descriptor, and the names in its annotations. */
export interface LayoutEntry {
  readonly descriptor: Descriptor
  readonly names: readonly string[]
}

/**
 * Reads `oci-layout` and `index.json` of a layout (image-spec 1.1, "OCI Image Layout").
 *
 * @returns the directory with symbolic links resolved, and the entries of its index
 * @throws {LayoutError} if it is not a layout; the file system's error if it cannot be read
 */
export async function readLayout(dir: string): Promise<{ root: string; entries: LayoutEntry[] }> {
  const root = await unlessMissing(realpath(dir))
  if (root === undefined) throw new LayoutError(dir, 'no such directory', 'an OCI image layout')
  if (!(await stat(root)).isDirectory()) throw new LayoutError(dir, 'not a directory', 'an OCI image layout')
  await readJson(join(root, 'oci-layout'), MARKER_LIMIT, MARKER, '{"imageLayoutVersion":"1.0.0"}')
  const path = join(root, 'index.json')
  const expected = 'an OCI image index with schemaVersion 2 and a list of manifests'
  const { manifests } = await readJson(path, INDEX_LIMIT, INDEX, expected)
  const entries = manifests.map((entry, at) => {
    try {
      return { descriptor: parseDescriptor(entry, `manifests[${at}]`), names: namesOf(entry) }
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error)
      throw new LayoutError(path, problem, 'descriptors with mediaType, digest and size', error)
    }
  })
  return { root, entries }
}

function namesOf(entry: unknown): string[] {
  const annotations: unknown = (entry as { annotations?: unknown }).annotations
  if (typeof annotations !== 'object' || annotations === null) return []
  const names = NAME_ANNOTATIONS.map((annotation) => (annotations as Record<string, unknown>)[annotation])
  return [...new Set(names.filter((name) => typeof name === 'string'))]
}

async function readJson<T>(
  path: string,
  limit: number,
  schema: v.GenericSchema<unknown, T>,
  expected: string,
): Promise<T> {
  const bytes = await readFileUpTo(path, limit).catch((error: unknown) => {
    throw isMissing(error) ? new LayoutError(path, 'no such file', expected, error) : error
  })
  if (bytes === undefined) throw new LayoutError(path, `not a file of at most ${limit} bytes`, expected)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new LayoutError(path, `not JSON (${error instanceof Error ? error.message : String(error)})`, expected, error)
  }
  const { success, output, issues } = v.safeParse(schema, value)
  if (success) return output
  const [issue] = issues
  throw new LayoutError(path, `${v.getDotPath(issue) ?? 'the document'} is ${issue.received}`, expected)
}

/**
 * The bytes of a file; `undefined` if it is larger than `limit`, or not a regular file (opening a pipe would block).
 *
 * @throws the file system's error
 */
export async function readFileUpTo(path: string, limit: number): Promise<Uint8Array | undefined> {
  if (!(await stat(path)).isFile()) return undefined
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    return size > limit ? undefined : await file.readFile()
  } finally {
    await file.close()
  }
}

/**
 * Leaves out names that the policy does not admit, and entries whose content it admits under no name. Some tools write one
 * entry for each name of an image, so the policy looks at all entries of a digest together.
 */
export function admittedEntries(entries: readonly LayoutEntry[], admits: Policy['admits']): LayoutEntry[] {
  const byDigest = Map.groupBy(entries, ({ descriptor }) => descriptor.digest)
  const admitted = new Map(
    [...byDigest].map(([digest, same]) => [
      digest,
      admittedNames(
        same.flatMap(({ names }) => names),
        admits,
      ),
    ]),
  )
  return entries.flatMap(({ descriptor, names: all }) => {
    const names = all.filter((name) => admitted.get(descriptor.digest)?.includes(name))
    const isRefused = admitted.get(descriptor.digest) === undefined || (names.length === 0 && all.length > 0)
    return isRefused ? [] : [{ descriptor, names }]
  })
}

/**
 * Finds the tags in the annotations of entries. A name counts only with registry, repository and tag.
 *
 * @returns tags that can be resolved; entries without a full name, which are served by digest only; and names that different
 *   entries share, so that serving either one would be a guess
 */
export function namesIn(entries: readonly LayoutEntry[]) {
  const tags = new Map<Key, Digest>()
  const ambiguous = new Set<Key>()
  const unnamed: LayoutEntry[] = []
  for (const entry of entries) {
    const { digest } = entry.descriptor
    const references = entry.names.map((name) => fullTag(name, digest)).filter((tag) => tag !== undefined)
    if (references.length === 0) unnamed.push(entry)
    for (const key of references.map(tagKey)) {
      if ((tags.get(key) ?? digest) !== digest) ambiguous.add(key)
      tags.set(key, digest)
    }
  }
  for (const key of ambiguous) tags.delete(key)
  return { tags, unnamed, ambiguous: [...ambiguous] }
}

function fullTag(name: string, digest: Digest): TaggedReference | undefined {
  const { registry, repository, tag, digest: pinned = digest } = fullReferenceOf(name) ?? {}
  if (registry === undefined || repository === undefined || tag === undefined || pinned !== digest) return undefined
  return { registry, repository, tag }
}

/**
 * Finds the file of a digest in `blobs/`: its real path and its size in bytes, if it is a regular file that can be read.
 * `outside` if a symbolic link leads out of the directory: nobody may read other files of the machine through a layout.
 *
 * @param root the layout's directory, with symbolic links resolved
 * @throws the file system's error, unless the file is missing
 */
export async function locateBlob(root: string, digest: Digest) {
  return await unlessMissing(locate(root, join(root, 'blobs', algorithmOf(digest), hexOf(digest))))
}

/** Synchronous, because every request does this: hops through the thread pool would take five to twenty times as long. */
async function locate(root: string, link: string) {
  const path = realpathSync.native(link)
  if (!path.startsWith(root.endsWith(sep) ? root : root + sep)) return 'outside'
  const info = statSync(path)
  if (!info.isFile()) return undefined
  accessSync(path, constants.R_OK)
  return { path, size: info.size }
}
