import { type Resolution, resolverOf } from '../http/resolve.ts'
import type { Descriptor, Digest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { targetKey } from '../oci/key.ts'
import { childrenOf } from '../oci/manifest.ts'
import { isIndexMediaType, isManifestMediaType } from '../oci/media-type.ts'
import type { Policy } from '../oci/policy.ts'
import { formatReference, parseReference, type Reference } from '../oci/reference.ts'
import { bounded } from '../platform/abort.ts'
import { ownPlatform } from '../platform/runtime.ts'
import type { ContentStore } from '../store/store.ts'
import type { PeerRequest } from '../transfer/ask.ts'
import { type Asking, type AskingDependencies, askPeers, type Patient, readHere } from './trace-ask.ts'

export interface TracerDependencies extends AskingDependencies {
  readonly store: ContentStore
  readonly policy: Policy
}

/** A trace under way. Its patience also bounds each answer of this node's store. */
interface Tracing extends TracerDependencies, Patient {
  /** Why the store could not be asked, in words; missing if it could. */
  localProblem?: string
  readonly tell: (part: TracePart) => void
  readonly signal: AbortSignal
}

export interface TracerOptions {
  /** Milliseconds for which a pull looks for peers, for comparison. */
  readonly lookupTimeout: number
  readonly resolution: Resolution
  /** Milliseconds that a trace may take in all. */
  readonly limit?: number
  /** As {@link Tracing.patience}. */
  readonly patience?: number
}

/** One piece of content that a pull of the image would ask for, and who has it. */
export interface TracePart extends Asking {
  readonly role: 'tag' | 'index' | 'manifest' | 'config' | 'layer'
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

/** Milliseconds that one answer may take. It takes a few when all is well, and for ever if containerd or a peer hangs. */
const PATIENCE = 2_000
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
  const { lookupTimeout, resolution, limit = LIMIT, patience = PATIENCE } = options
  return async (text: string, emit: (step: TraceStep) => void, signal: AbortSignal): Promise<void> => {
    const startedAt = performance.now()
    const run = async (over: AbortSignal) => {
      try {
        const reference = parseReference(text.trim())
        emit({ step: 'name', name: formatReference(reference), lookupTimeout })
        emit({ step: 'resolve', by: await resolverOf(resolution, reference.registry, over) })
        const tell = (part: TracePart) => emit({ step: 'part', part })
        return await follow({ ...dependencies, patience, tell, signal: over }, reference)
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
  const target = { kind: 'manifest', registry, repository, tag } as const
  const { local, part } = await look(tracing, { target, method: 'HEAD' }, (store, over) => store.resolve(target, over))
  tracing.tell({ role: 'tag', ...part })
  return local ?? part.answers.find(({ outcome }) => outcome === 'content')?.digest
}

/** Follows a manifest to its config and layers, and an index to the manifest for this node's platform. */
async function followContent(tracing: Tracing, name: Reference, digest: Digest): Promise<string | undefined> {
  const { registry, repository } = name
  for (let next: Digest = digest; ; ) {
    const target = { kind: 'manifest', registry, repository, digest: next } as const
    const { local, manifest, part } = await look(tracing, { target, method: 'GET' }, (store, over) =>
      readHere(store, target.digest, over),
    )
    const found = local ?? manifest
    if (found === undefined) {
      tracing.tell({ role: 'manifest', ...part })
      return 'nobody in the swarm has this manifest: containerd asks upstream'
    }
    const { mediaType, bytes } = found
    const isIndex = isIndexMediaType(mediaType)
    tracing.tell({ role: isIndex ? 'index' : 'manifest', size: bytes.length, ...part })
    const children = childrenOf(bytes, mediaType)
    if (!isIndex) return await followBlobs(tracing, name, children)
    const child = preferredChild(bytes, children)
    if (child === undefined || !isManifestMediaType(child.mediaType)) return 'the index has no manifest'
    next = child.digest
  }
}

async function followBlobs(
  tracing: Tracing,
  { registry, repository }: Reference,
  children: readonly Descriptor[],
): Promise<string | undefined> {
  const chosen = [...new Map(children.map((child) => [child.digest, child])).values()].slice(0, MAX_PARTS)
  const roles = new Map(children.map(({ digest }, index) => [digest, index === 0 ? 'config' : 'layer'] as const))
  for (let at = 0; at < chosen.length; at += PARALLEL) {
    const looking = chosen.slice(at, at + PARALLEL).map(async ({ digest, size }) => {
      const target = { kind: 'blob', registry, repository, digest } as const
      // The first byte of a blob shows that the peer can send it, and costs real pulls nothing.
      const { part } = await look(tracing, { target, method: 'GET', range: 'bytes=0-0' }, (store, over) =>
        store.describe(digest, over),
      )
      return { role: roles.get(digest) ?? 'layer', size, ...part }
    })
    for (const part of await Promise.all(looking)) tracing.tell(part)
  }
  return roles.size > chosen.length ? `only the first ${MAX_PARTS} parts of ${roles.size} were looked at` : undefined
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

type Question<T> = (store: ContentStore, signal: AbortSignal) => Promise<T | undefined>

/** Finds out whether this node has the content, and which peers do. */
async function look<T>(tracing: Tracing, request: PeerRequest, question: Question<T>) {
  const startedAt = performance.now()
  const local = await askHere(tracing, question)
  const own = {
    ...{ key: targetKey(request.target), isLocal: local !== undefined, localMs: performance.now() - startedAt },
    localProblem: tracing.localProblem,
  }
  const { asking, manifest } = await askPeers(tracing, request, tracing.signal)
  return { local, manifest, part: { ...own, ...asking } }
}

/**
 * Asks this node's own store. The trace goes on if the store hangs, because people use the page to find out what is wrong. After
 * one failure it asks nothing more, because every question would wait as long.
 *
 * @returns `undefined` if the store does not have it, or could not be asked
 */
async function askHere<T>(tracing: Tracing, question: Question<T>): Promise<T | undefined> {
  const { store, signal, patience, localProblem } = tracing
  try {
    return localProblem === undefined ? await bounded(patience, signal, (over) => question(store, over)) : undefined
  } catch (error) {
    signal.throwIfAborted()
    tracing.localProblem = error instanceof Error ? error.message : String(error)
    return undefined
  }
}
