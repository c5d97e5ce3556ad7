import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { algorithmOf, type Descriptor, type Digest, hexOf } from '../oci/digest.ts'
import { childrenOf } from '../oci/manifest.ts'
import { isManifestMediaType, MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'

const LIMITS = {
  /** How deep indexes may nest. Registries and builders write one index above manifests, rarely two. */
  depthLimit: 8,
  /** How many descriptors below one target are looked at. A manifest of 4 MiB can name some 40 000. */
  widthLimit: 100_000,
}

/**
 * Longest time that a walk keeps the event loop, in milliseconds. Where every answer comes from memory nothing else makes it
 * wait, and with thousands of images a walk takes some tenths of a second, in which no transfer would go on.
 */
const SLICE = 5

/** Where the walk asks what is there. A miss is `undefined`; a source that fails throws, which ends the walk. */
export interface WalkSource {
  /** Size of the content in bytes, if it is held. */
  describe(digest: Digest, signal: AbortSignal): Promise<number | undefined>
  /** The whole content, which is at most {@link MANIFEST_SIZE_LIMIT} bytes long, if it is held. */
  read(digest: Digest, signal: AbortSignal): Promise<Uint8Array | undefined>
}

/** Why something that a manifest names, or the manifest itself, is left out. */
export interface WalkProblem {
  readonly descriptor: Descriptor
  readonly problem: string
}

export interface WalkOptions extends Partial<typeof LIMITS> {
  readonly signal: AbortSignal
  /** Hears everything that is wrong; a child that is not there is not. */
  readonly onProblem?: (problem: WalkProblem) => void
}

/**
 * Walks from images' targets down to everything that is really held, each piece with the media type that its parent
 * gives it, parents before children. It asks for each digest whether it is there, and infers that from nothing.
 *
 * It leaves out content of another size than its descriptor says, and manifests whose bytes do not match their digest.
 * It yields a manifest that it cannot parse, since its bytes do match, but does not follow it.
 *
 * A digest comes once, with one exception: if some parents call it a blob and others a manifest, it may come again. The
 * last one counts: it is a manifest if it can be read as one.
 *
 * @throws what the source throws, and the signal's reason when it aborts
 */
export async function* walkHeld(
  targets: Iterable<Descriptor>,
  source: WalkSource,
  options: WalkOptions,
): AsyncGenerator<Descriptor, void, undefined> {
  const { signal, depthLimit, widthLimit, onProblem = () => undefined } = { ...LIMITS, ...options }
  const sizes = new Map<Digest, Promise<number | undefined>>()
  const done = new Map<Digest, 'blob' | 'manifest'>()
  const broken = new Set<Digest>()
  let sliceEnd = performance.now() + SLICE

  for (const target of targets) {
    const queue = [{ descriptor: target, depth: 0 }]
    // An index and not shift(), which moves the rest of a wide queue each time.
    for (let next = 0; next < queue.length; next++) {
      if (performance.now() > sliceEnd) {
        await turn()
        sliceEnd = performance.now() + SLICE
      }
      signal.throwIfAborted()
      const { descriptor, depth } = queue[next] as (typeof queue)[number]
      const kind = isManifestMediaType(descriptor.mediaType) ? 'manifest' : 'blob'
      const before = done.get(descriptor.digest)
      if (before === kind || before === 'manifest' || (kind === 'manifest' && broken.has(descriptor.digest))) continue

      const size = await remember(sizes, descriptor.digest, () => source.describe(descriptor.digest, signal))
      if (size === undefined) continue
      if (size !== descriptor.size) {
        onProblem({ descriptor, problem: `${size} bytes are held, the descriptor says ${descriptor.size}` })
        continue
      }
      if (kind === 'blob') {
        done.set(descriptor.digest, kind)
        yield descriptor
        continue
      }
      const read = await readManifest(descriptor, source, signal)
      if (read === undefined) continue
      if (read.problem === undefined) done.set(descriptor.digest, kind)
      else {
        // What an image calls a manifest may be a layer of others.
        broken.add(descriptor.digest)
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

/** What a manifest is made of, and whether its bytes are those of its digest; `undefined` if it is not held. */
async function readManifest(descriptor: Descriptor, source: WalkSource, signal: AbortSignal) {
  const failed = (intact: boolean, problem: string) => ({ intact, children: [], problem })
  if (descriptor.size > MANIFEST_SIZE_LIMIT) {
    return failed(false, `a manifest of ${descriptor.size} bytes, at most ${MANIFEST_SIZE_LIMIT}`)
  }
  const bytes = await source.read(descriptor.digest, signal)
  if (bytes === undefined) return undefined
  const hex = createHash(algorithmOf(descriptor.digest)).update(bytes).digest('hex')
  if (hex !== hexOf(descriptor.digest)) return failed(false, 'the bytes are not those of the digest')
  try {
    return { intact: true, children: childrenOf(bytes, descriptor.mediaType), problem: undefined }
  } catch (error) {
    return failed(true, error instanceof Error ? error.message : String(error))
  }
}

function remember<K, V>(known: Map<K, V>, key: K, make: () => V): V {
  const value = known.get(key) ?? make()
  known.set(key, value)
  return value
}
