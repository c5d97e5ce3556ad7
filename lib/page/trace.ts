import { type Resolution, resolverOf } from '../http/resolve.ts'
import type { Descriptor, Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { targetKey } from '../oci/key.ts'
import { childrenOf } from '../oci/manifest.ts'
import { isIndexMediaType, isManifestMediaType } from '../oci/media-type.ts'
import type { BlobTarget, ContentTarget } from '../oci/path.ts'
import type { Policy } from '../oci/policy.ts'
import { formatReference, parseReference, type Reference } from '../oci/reference.ts'
import { bounded } from '../platform/abort.ts'
import { ownPlatform } from '../platform/runtime.ts'
import type { ContentStore } from '../store/store.ts'
import {
  type Asking,
  type AskingDependencies,
  askPeers,
  createLocalAsker,
  type LocalAnswer,
  type LocalAsker,
  readFromPeer,
  readHere,
  type TracedManifest,
} from './trace-ask.ts'

export interface TracerDependencies extends AskingDependencies {
  readonly store: ContentStore
  readonly policy: Policy
}

/** A trace under way. */
interface Tracing extends TracerDependencies {
  /** Asks this node's own store, without hanging. */
  readonly local: LocalAsker
  readonly tell: (part: TracePart) => void
  readonly signal: AbortSignal
}

export interface TracerOptions {
  /** Milliseconds for which a pull looks for peers, for comparison. */
  readonly lookupTimeout: number
  readonly resolution: Resolution
  /** Milliseconds that a trace may take in all. */
  readonly limit?: number
  /** Milliseconds that this node's store may take for one answer. */
  readonly localLimit?: number
}

/** One piece of content that a pull of the image would ask for, and who has it. */
export interface TracePart extends Asking {
  readonly role: 'tag' | 'index' | 'manifest' | 'config' | 'layer' | 'artifact'
  /** The digest, or `registry/repository:tag`. */
  readonly key: string
  readonly size?: number | undefined
  /** Whether this node has it, and how many milliseconds its store took to tell. */
  readonly isLocal: boolean
  readonly localMs: number
  /** Why this node could not be asked, in words. */
  readonly localProblem?: string | undefined
}

/** The steps of a trace, in this order: the name as it was read, who resolves it, its parts, and the end. */
export type TraceStep =
  | { readonly step: 'name'; readonly name: string; readonly lookupTimeout: number }
  | { readonly step: 'resolve'; readonly by: 'upstream' | 'swarm' }
  | { readonly step: 'part'; readonly part: TracePart }
  | { readonly step: 'end'; readonly ms: number; readonly problem?: string }

/** Milliseconds that are enough for a large image if every lookup takes as long as it may. */
const LIMIT = 30_000
/** How many parts are traced: images with more layers are rare, and each part costs a lookup and a byte from some peers. */
const MAX_PARTS = 48
/** How many parts are traced at the same time: as many as containerd pulls. */
const PARALLEL = 3

/**
 * Takes the steps of a pull of the image without pulling it. For each step it tells who has the content and how long the
 * answers took. It does not change what real pulls know about peers.
 *
 * @param emit called with every step; the last one is the end
 * @param signal ends the trace early
 */
export function createTracer(dependencies: TracerDependencies, options: TracerOptions) {
  const { lookupTimeout, resolution, limit = LIMIT, localLimit } = options
  return async (text: string, emit: (step: TraceStep) => void, signal: AbortSignal): Promise<void> => {
    const startedAt = performance.now()
    const run = async (over: AbortSignal) => {
      try {
        const reference = parseReference(text.trim())
        emit({ step: 'name', name: formatReference(reference), lookupTimeout })
        emit({ step: 'resolve', by: await resolverOf(resolution, reference.registry, over) })
        const local = createLocalAsker(dependencies.store, localLimit)
        const tell = (part: TracePart) => emit({ step: 'part', part })
        return await follow({ ...dependencies, local, tell, signal: over }, reference)
      } catch (error) {
        if (over.aborted) return `stopped: a trace takes ${limit / 1000} s at most`
        if (error instanceof OciError) return error.message
        throw error
      }
    }
    const problem = await bounded(limit, signal, run)
    emit({ step: 'end', ms: performance.now() - startedAt, ...(problem === undefined ? {} : { problem }) })
  }
}

export type Tracer = ReturnType<typeof createTracer>

/** @returns why the trace could not go on, in words */
async function follow(tracing: Tracing, reference: Reference): Promise<string | undefined> {
  const { policy } = tracing
  if (!policy.admits(reference)) return 'this image is not mirrored: see --registries and --exclude'
  let digest = reference.digest
  if (digest === undefined) {
    if (!policy.resolvesTags)
      return 'tags are resolved upstream (--resolve upstream): give the digest, as in name@sha256:...'
    digest = await followTag(tracing, reference)
    if (digest === undefined) return 'neither this node nor a peer knows the tag: containerd asks upstream'
  }
  return await followContent(tracing, reference, digest)
}

async function followTag(tracing: Tracing, { registry, repository, tag = '' }: Reference): Promise<Digest | undefined> {
  const { local: ask, tell, signal } = tracing
  const target = { kind: 'manifest', registry, repository, tag } as const
  const local = await ask((store, over) => store.resolve(target, over), signal)
  const asking = await askPeers(tracing, { target, method: 'HEAD' }, signal)
  tell({ role: 'tag', key: targetKey(target), ...shown(local), ...asking })
  return local.value ?? asking.answers.find(({ outcome }) => outcome === 'content')?.digest
}

/** Follows a manifest to its config and layers, and an index to the manifest for this node's platform. */
async function followContent(tracing: Tracing, name: Reference, digest: Digest): Promise<string | undefined> {
  const { tell } = tracing
  for (let next: Digest = digest; ; ) {
    const target = { kind: 'manifest', ...placeOf(name), digest: next } as const
    const found = await look(tracing, target)
    const manifest = await readManifest(tracing, target, found.asking)
    if (manifest === undefined) {
      tell({ role: 'manifest', key: next, ...found.own, ...found.asking })
      return 'nobody in the swarm has this manifest: containerd asks upstream'
    }
    const { mediaType, bytes } = manifest
    const isIndex = isIndexMediaType(mediaType)
    const role = isIndex ? 'index' : 'manifest'
    tell({ role, key: next, size: bytes.length, ...found.own, ...found.asking })
    const children = childrenOf(bytes, mediaType)
    if (!isIndex) return await followBlobs(tracing, name, children)
    const child = preferredChild(bytes, children)
    if (child === undefined || !isManifestMediaType(child.mediaType)) return 'the index has no manifest'
    next = child.digest
  }
}

async function followBlobs(
  tracing: Tracing,
  name: Reference,
  children: readonly Descriptor[],
): Promise<string | undefined> {
  const chosen = [...new Map(children.map((child) => [child.digest, child])).values()].slice(0, MAX_PARTS)
  const roles = new Map(children.map(({ digest }, index) => [digest, index === 0 ? 'config' : 'layer'] as const))
  for (let at = 0; at < chosen.length; at += PARALLEL) {
    const looking = chosen.slice(at, at + PARALLEL).map(async ({ digest, size }) => {
      const target: BlobTarget = { kind: 'blob', ...placeOf(name), digest }
      const { own, asking } = await look(tracing, target)
      return { role: roles.get(digest) ?? 'layer', key: digest, size, ...own, ...asking }
    })
    for (const part of await Promise.all(looking)) tracing.tell(part)
  }
  return roles.size > chosen.length ? `only the first ${MAX_PARTS} parts of ${roles.size} were looked at` : undefined
}

/** Reads the manifest from this node, or else from a peer that has said that it has it; `undefined` if nobody gives it. */
async function readManifest(
  tracing: Tracing,
  target: Parameters<typeof readFromPeer>[1],
  { answers }: Asking,
): Promise<TracedManifest | undefined> {
  const { signal } = tracing
  const held = await tracing.local((store, over) => readHere(store, target.digest, over), signal)
  if (held.value !== undefined) return held.value
  for (const { address, outcome } of answers) {
    const manifest = outcome === 'content' ? await readFromPeer(tracing, target, address, signal) : undefined
    if (manifest !== undefined) return manifest
  }
  return undefined
}

/** The child of an index for this node's platform, or else the first child. */
function preferredChild(index: Uint8Array, children: readonly Descriptor[]): Descriptor | undefined {
  const { manifests } = JSON.parse(new TextDecoder().decode(index)) as { readonly manifests?: unknown }
  const list: readonly unknown[] = Array.isArray(manifests) ? manifests : []
  const isOwn = (entry: unknown) => {
    const { os, architecture } = (entry as { platform?: { os?: unknown; architecture?: unknown } }).platform ?? {}
    return os === ownPlatform.os && architecture === ownPlatform.architecture
  }
  return children[Math.max(list.findIndex(isOwn), 0)]
}

/** Finds out whether this node has the content, and which peers do. */
async function look(tracing: Tracing, target: ContentTarget & { readonly digest: Digest }) {
  const { signal } = tracing
  const local = await tracing.local((store, over) => store.describe(target.digest, over), signal)
  // The first byte of a blob shows that the peer can send it, and costs real pulls nothing.
  const range = target.kind === 'blob' ? 'bytes=0-0' : undefined
  const asking = await askPeers(tracing, { target, method: 'GET', range }, signal)
  return { own: shown(local), asking }
}

function shown({ value, ms, problem }: LocalAnswer<unknown>): Pick<TracePart, 'isLocal' | 'localMs' | 'localProblem'> {
  return { isLocal: value !== undefined, localMs: ms, ...(problem === undefined ? {} : { localProblem: problem }) }
}

function placeOf({ registry, repository }: Reference) {
  return { registry, repository }
}
