import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { algorithmOf, type Descriptor, type Digest, hexOf } from '../oci/digest.ts'
import { childrenOf } from '../oci/manifest.ts'
import { isManifestMediaType, MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'

const LIMITS = {
  /** How deep indexes may nest. Registries and builders write one level of indexes, rarely two. */
  depthLimit: 8,
  /** How many descriptors below one target are visited. A manifest of 4 MiB can name some 40 000. */
  widthLimit: 100_000,
}

/**
 * Milliseconds after which a walk yields to the event loop. If all answers come from memory, nothing else makes it wait. With
 * thousands of images it takes some tenths of a second, and all transfers would stand still.
 */
const SLICE = 5

/** Where the walk looks for content. A miss is `undefined`; an error ends the walk. */
export interface WalkSource {
  /** Size of the content in bytes, if it is held. */
  describe(digest: Digest, signal: AbortSignal): Promise<number | undefined>
  /** The whole content, of at most {@link MANIFEST_SIZE_LIMIT} bytes, if it is held. */
  read(digest: Digest, signal: AbortSignal): Promise<Uint8Array | undefined>
}

/** Why a manifest, or a child of one, is left out. */
export interface WalkProblem {
  readonly descriptor: Descriptor
  readonly problem: string
}

export interface WalkOptions extends Partial<typeof LIMITS> {
  readonly signal: AbortSignal
  /** Called for every problem. A child that is not held is no problem. */
  readonly onProblem?: (problem: WalkProblem) => void
}

/**
 * Walks from images' targets down to all content that is held, parents before children. Each piece has the media type that its
 * parent gives it. The walk asks the source about every digest, and infers nothing.
 *
 * It leaves out content whose size differs from its descriptor, and manifests whose bytes do not match their digest. If it
 * cannot parse a manifest whose bytes match, it yields the manifest but not its children.
 *
 * Each digest comes once, except that it may come again if some parents call it a blob and others a manifest. The last one
 * counts: it is a manifest if it can be read as one.
 *
 * @throws the source's error; the signal's reason when it aborts
 */
export async function* walkHeld(
  targets: Iterable<Descriptor>,
  source: WalkSource,
  options: WalkOptions,
): AsyncGenerator<Descriptor, void, undefined> {
  const { signal, depthLimit, widthLimit, onProblem = () => undefined } = { ...LIMITS, ...options }
  const sizes = new Map<Digest, number | undefined>()
  const done = new Map<Digest, 'blob' | 'manifest'>()
  const broken = new Set<Digest>()
  let sliceEnd = performance.now() + SLICE

  for (const target of targets) {
    const queue = [{ descriptor: target, depth: 0 }]
    // Not `shift()`, which would move the rest of a wide queue each time.
    for (let next = 0; next < queue.length; next++) {
      if (performance.now() > sliceEnd) {
        await turn()
        sliceEnd = performance.now() + SLICE
      }
      signal.throwIfAborted()
      const { descriptor, depth } = queue[next] as (typeof queue)[number]
      const { digest } = descriptor
      const kind = isManifestMediaType(descriptor.mediaType) ? 'manifest' : 'blob'
      const before = done.get(digest)
      if (before === kind || before === 'manifest' || (kind === 'manifest' && broken.has(digest))) continue

      if (!sizes.has(digest)) sizes.set(digest, await source.describe(digest, signal))
      const size = sizes.get(digest)
      if (size === undefined) continue
      if (size !== descriptor.size) {
        onProblem({ descriptor, problem: `${size} bytes are held, the descriptor says ${descriptor.size}` })
        continue
      }
      if (kind === 'blob') {
        done.set(digest, kind)
        yield descriptor
        continue
      }
      const read = await readManifest(descriptor, source, signal)
      if (read === undefined) continue
      if (read.problem === undefined) done.set(digest, kind)
      else {
        // One image may call it a manifest, and others a layer.
        broken.add(digest)
        onProblem({ descriptor, problem: read.problem })
      }
      if (!read.intact || (read.problem !== undefined && before === 'blob')) continue
      yield descriptor

      if (read.children.length === 0) continue
      if (depth >= depthLimit) {
        onProblem({ descriptor, problem: `nested deeper than ${depthLimit}, not followed` })
      } else if (queue.length + read.children.length > widthLimit) {
        onProblem({ descriptor, problem: `more than ${widthLimit} descriptors below one image, not followed` })
      } else {
        for (const child of read.children) queue.push({ descriptor: child, depth: depth + 1 })
      }
    }
  }
}

/** The children of a manifest, and whether its bytes match its digest; `undefined` if it is not held. */
async function readManifest(descriptor: Descriptor, source: WalkSource, signal: AbortSignal) {
  const failed = (intact: boolean, problem: string) => ({ intact, children: [], problem })
  if (descriptor.size > MANIFEST_SIZE_LIMIT) {
    return failed(false, `a manifest of ${descriptor.size} bytes, at most ${MANIFEST_SIZE_LIMIT}`)
  }
  const bytes = await source.read(descriptor.digest, signal)
  if (bytes === undefined) return undefined
  const hex = createHash(algorithmOf(descriptor.digest)).update(bytes).digest('hex')
  if (hex !== hexOf(descriptor.digest)) return failed(false, 'the bytes do not match the digest')
  try {
    return { intact: true, children: childrenOf(bytes, descriptor.mediaType), problem: undefined }
  } catch (error) {
    return failed(true, error instanceof Error ? error.message : String(error))
  }
}
