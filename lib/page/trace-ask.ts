import type { Digest } from '../oci/digest.ts'
import { targetKey } from '../oci/key.ts'
import { MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'
import type { ManifestTarget } from '../oci/path.ts'
import type { PeerClient } from '../peers/client.ts'
import type { PeerCredentials } from '../peers/credentials.ts'
import { PeerError } from '../peers/error.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import type { PeerFailure } from '../peers/standing.ts'
import { bounded, onAbort } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { type ByteSource, sourceResponse } from '../platform/byte-source.ts'
import type { ContentStore } from '../store/store.ts'
import type { Peer, Router } from '../swarm/router.ts'
import { ask, type PeerRequest } from '../transfer/ask.ts'
import { VerificationError, verify } from '../transfer/verify.ts'

export interface AskingDependencies {
  readonly router: Router
  readonly client: PeerClient
  readonly credentials: PeerCredentials
  /** A trace only reads it. */
  readonly known: KnownPeers
}

/** The answer of one peer. */
export interface PeerTrace {
  readonly address: string
  readonly outcome: 'content' | 'missing' | 'busy' | PeerFailure
  /** Milliseconds until the head of its answer, or until it failed. */
  readonly headMs: number
  /** Milliseconds until its first byte, if the trace asked for one. */
  readonly firstByteMs?: number
  /** The digest of its content. */
  readonly digest?: Digest
  /** What went wrong, in words. */
  readonly problem?: string
  /** Whether a pull would avoid this peer now. */
  readonly isAside: boolean
}

export interface Asking {
  /** Milliseconds until the lookup found its first peer; missing if it found none. */
  readonly firstPeerMs?: number
  /** Milliseconds until the lookup was over. */
  readonly lookupMs: number
  /** How many peers the lookup found. */
  readonly found: number
  /** The answers of the peers that were asked. */
  readonly answers: readonly PeerTrace[]
}

/** Milliseconds that one lookup may take: longer than pulls wait, to show peers that are found too late for a pull. */
const LOOKUP_LIMIT = 2_000
/** How many peers a lookup may find, and how many are asked for one part. A pull asks three at a time. */
const MAX_FOUND = 20
const MAX_ASKED = 4
/** Milliseconds after the head for the first byte, and for all bytes of a manifest. */
const BYTE_LIMIT = 3_000
const MANIFEST_LIMIT = 5_000

/** Looks for peers that have the content, until the lookup is over, and asks some of them at once. */
export async function askPeers(
  dependencies: AskingDependencies,
  request: PeerRequest,
  signal: AbortSignal,
): Promise<Asking> {
  const startedAt = performance.now()
  const peers = new Map<string, Peer>()
  let firstPeerMs: number | undefined
  await bounded(LOOKUP_LIMIT, signal, async (over) => {
    for await (const peer of dependencies.router.lookup(targetKey(request.target), over)) {
      firstPeerMs ??= performance.now() - startedAt
      peers.set(addressOf(peer), peer)
      if (peers.size === MAX_FOUND) break
    }
  })
  signal.throwIfAborted()
  const lookupMs = performance.now() - startedAt
  const ranked = dependencies.known.rank([...peers.values()]).slice(0, MAX_ASKED)
  const answers = await Promise.all(ranked.map((peer) => askPeer(dependencies, peer, request, signal)))
  return { ...(firstPeerMs === undefined ? {} : { firstPeerMs }), lookupMs, found: peers.size, answers }
}

async function askPeer(
  { client, credentials, known }: AskingDependencies,
  peer: Peer,
  request: PeerRequest,
  signal: AbortSignal,
): Promise<PeerTrace> {
  const startedAt = performance.now()
  const spent = () => performance.now() - startedAt
  const told = { address: addressOf(peer), isAside: known.isAside(peer) }
  try {
    const answer = await ask(client, credentials, peer, request, signal)
    const headMs = spent()
    if (answer.kind === 'missing' || answer.kind === 'busy') return { ...told, outcome: answer.kind, headMs }
    // An empty blob has no first byte.
    if (answer.kind === 'unsatisfiable') return { ...told, outcome: 'content', headMs }
    const { digest } = answer.descriptor
    if (request.method === 'HEAD') return { ...told, outcome: 'content', headMs, digest }
    const chunk = await reading(answer.body, BYTE_LIMIT, signal, () => answer.body.next())
    if (chunk === undefined) return { ...told, outcome: 'silent', headMs, problem: 'headers, but no byte' }
    return { ...told, outcome: 'content', headMs, firstByteMs: spent(), digest }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof PeerError)) throw error
    return { ...told, outcome: error.failure, headMs: spent(), problem: error.message }
  }
}

/** A manifest from a peer that has said that it has it; `undefined` if the peer does not give it after all. */
export async function readFromPeer(
  { client, credentials }: AskingDependencies,
  target: ManifestTarget & { readonly digest: Digest },
  address: string,
  signal: AbortSignal,
): Promise<TracedManifest | undefined> {
  const at = address.lastIndexOf(':')
  const peer = { host: address.slice(0, at), port: Number(address.slice(at + 1)) }
  try {
    const answer = await ask(client, credentials, peer, { target, method: 'GET' }, signal)
    if (answer.kind !== 'content') return undefined
    const { body, descriptor } = answer
    const bytes = await reading(body, MANIFEST_LIMIT, signal, () => wholeOf(body))
    verify(bytes, target.digest)
    return { mediaType: descriptor.mediaType, bytes }
  } catch (error) {
    signal.throwIfAborted()
    // The peer gives other content than it said. The trace shows its first answer.
    if (error instanceof PeerError || error instanceof VerificationError) return undefined
    throw error
  }
}

/** Reads from a body, which is cancelled afterwards, or after `limit` milliseconds. */
async function reading<T>(body: ByteSource, limit: number, signal: AbortSignal, read: () => Promise<T>): Promise<T> {
  const cancel = () => void body.cancel()
  try {
    return await bounded(limit, signal, async (over) => {
      using _ = onAbort(over, cancel)
      return await read()
    })
  } finally {
    cancel()
  }
}

async function wholeOf(source: ByteSource): Promise<Uint8Array> {
  return new Uint8Array(await sourceResponse(source, {}).arrayBuffer())
}

/** The answer of this node's own store. */
export interface LocalAnswer<T> {
  /** Missing if the store does not have it, or could not be asked. */
  readonly value?: T | undefined
  /** Milliseconds until the store had answered. */
  readonly ms: number
  /** Why the store could not be asked, in words. */
  readonly problem?: string | undefined
}

/** A manifest or index with its bytes, which match its digest. */
export interface TracedManifest {
  readonly mediaType: string
  readonly bytes: Uint8Array
}

/** Milliseconds that one question may take. It takes one when all is well, and would take for ever if containerd hangs. */
const LOCAL_LIMIT = 2_000

/**
 * Asks this node's own store for a trace. The trace goes on if the store hangs, because people use the page to find out what is
 * wrong. After one failure it asks nothing more, because every question would wait as long.
 */
export function createLocalAsker(store: ContentStore, limit = LOCAL_LIMIT) {
  let problem: string | undefined
  return async <T>(
    question: (store: ContentStore, signal: AbortSignal) => Promise<T | undefined>,
    signal: AbortSignal,
  ): Promise<LocalAnswer<T>> => {
    if (problem !== undefined) return { ms: 0, problem }
    const startedAt = performance.now()
    try {
      const value = await bounded(limit, signal, (over) => question(store, over))
      return { value, ms: performance.now() - startedAt }
    } catch (error) {
      signal.throwIfAborted()
      problem = error instanceof Error ? error.message : String(error)
      return { ms: performance.now() - startedAt, problem }
    }
  }
}

export type LocalAsker = ReturnType<typeof createLocalAsker>

/** The manifest, if this node has it. */
export async function readHere(
  store: ContentStore,
  digest: Digest,
  signal: AbortSignal,
): Promise<TracedManifest | undefined> {
  const descriptor = await store.describe(digest, signal)
  if (descriptor === undefined || descriptor.size > MANIFEST_SIZE_LIMIT) return undefined
  const body = await store.open(digest, undefined, signal)
  if (body === undefined) return undefined
  return { mediaType: descriptor.mediaType, bytes: await wholeOf(body) }
}
