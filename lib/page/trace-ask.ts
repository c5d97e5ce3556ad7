import type { Digest } from '../oci/digest.ts'
import { targetKey } from '../oci/key.ts'
import { MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'
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

/** A trace that asks. */
export interface Patient extends AskingDependencies {
  /** Milliseconds after the head of an answer for its first byte, and for all bytes of a manifest. */
  readonly patience: number
}

/** The answer of one peer. */
export interface PeerTrace {
  readonly address: string
  readonly outcome: 'content' | 'missing' | 'busy' | PeerFailure
  /** Milliseconds until the head of its answer, or until it failed. */
  readonly headMs: number
  /** Milliseconds until its first byte, if the trace asked for one. */
  readonly firstByteMs?: number | undefined
  /** The digest of its content. */
  readonly digest?: Digest
  /** What went wrong, in words. */
  readonly problem?: string
  /** Whether a pull would avoid this peer now. */
  readonly isAside: boolean
}

export interface Asking {
  /** Milliseconds until the lookup found its first peer; missing if it found none. */
  readonly firstPeerMs?: number | undefined
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

/**
 * Looks for peers that have the content, until the lookup is over, and asks some of them at once.
 *
 * @returns also a manifest that was asked for by its digest, if a peer gave it
 */
export async function askPeers(
  dependencies: Patient,
  request: PeerRequest,
  signal: AbortSignal,
): Promise<{ readonly asking: Asking; readonly manifest: TracedManifest | undefined }> {
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
  return {
    asking: { firstPeerMs, lookupMs, found: peers.size, answers: answers.map(({ told }) => told) },
    manifest: answers.find(({ manifest }) => manifest !== undefined)?.manifest,
  }
}

async function askPeer(
  { client, credentials, known, patience }: Patient,
  peer: Peer,
  request: PeerRequest,
  signal: AbortSignal,
): Promise<{ readonly told: PeerTrace; readonly manifest?: TracedManifest }> {
  const startedAt = performance.now()
  const spent = () => performance.now() - startedAt
  const about = { address: addressOf(peer), isAside: known.isAside(peer) }
  try {
    const answer = await ask(client, credentials, peer, request, signal)
    const headMs = spent()
    const told = { ...about, outcome: 'content' as const, headMs }
    if (answer.kind === 'missing' || answer.kind === 'busy') return { told: { ...told, outcome: answer.kind } }
    // An empty blob has no first byte.
    if (answer.kind === 'unsatisfiable') return { told }
    const { digest, mediaType } = answer.descriptor
    if (request.method === 'HEAD') return { told: { ...told, digest } }
    const isManifest = request.target.kind === 'manifest'
    const { bytes, firstByteMs } = await read(answer.body, isManifest, spent, patience, signal)
    if (firstByteMs === undefined) return { told: { ...told, outcome: 'silent', problem: 'headers, but no byte' } }
    if (isManifest) verify(bytes, digest)
    return { told: { ...told, firstByteMs, digest }, ...(isManifest && { manifest: { mediaType, bytes } }) }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof PeerError || error instanceof VerificationError)) throw error
    const outcome = error instanceof PeerError ? error.failure : 'invalid'
    return { told: { ...about, outcome, headMs: spent(), problem: error.message } }
  }
}

/** Reads the first chunk of a body, or all of it. */
async function read(body: ByteSource, isWhole: boolean, spent: () => number, patience: number, signal: AbortSignal) {
  const cancel = () => void body.cancel()
  try {
    return await bounded(patience, signal, async (over) => {
      using _ = onAbort(over, cancel)
      try {
        const first = Buffer.from((await body.next()) ?? [])
        const firstByteMs = first.length === 0 ? undefined : spent()
        return { firstByteMs, bytes: isWhole ? Buffer.concat([first, await wholeOf(body)]) : first }
      } catch (cause) {
        if (!over.aborted) throw cause
        throw new PeerError(`headers, but then too few bytes within ${patience} ms`, { failure: 'silent', cause })
      }
    })
  } finally {
    cancel()
  }
}

async function wholeOf(source: ByteSource): Promise<Uint8Array> {
  return new Uint8Array(await sourceResponse(source, {}).arrayBuffer())
}

/** A manifest or index with its bytes, which match its digest. */
export interface TracedManifest {
  readonly mediaType: string
  readonly bytes: Uint8Array
}

/** The manifest, if this node has it. */
export async function readHere(
  store: ContentStore,
  digest: Digest,
  signal: AbortSignal,
): Promise<TracedManifest | undefined> {
  const descriptor = await store.describe(digest, signal)
  if (descriptor === undefined || descriptor.size > MANIFEST_SIZE_LIMIT) return undefined
  const body = await store.open(digest, undefined, signal)
  return body && { mediaType: descriptor.mediaType, bytes: await wholeOf(body) }
}
