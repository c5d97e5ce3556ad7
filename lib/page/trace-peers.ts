import type { Digest } from '../oci/digest.ts'
import { targetKey } from '../oci/key.ts'
import type { PeerClient } from '../peers/client.ts'
import type { PeerCredentials } from '../peers/credentials.ts'
import { PeerError } from '../peers/error.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import type { PeerFailure } from '../peers/standing.ts'
import { addressOf } from '../platform/address.ts'
import type { Peer, Router } from '../swarm/router.ts'
import { ask, type PeerRequest } from '../transfer/ask.ts'

export interface AskingDependencies {
  readonly router: Router
  readonly client: PeerClient
  readonly credentials: PeerCredentials
  /** Only read. */
  readonly known: KnownPeers
}

/** What one peer said. */
export interface PeerTrace {
  readonly address: string
  readonly outcome: 'content' | 'missing' | 'busy' | PeerFailure
  /** Milliseconds until the head of its answer, or until it failed. */
  readonly headMs: number
  /** Milliseconds until its first byte, if one was asked for. */
  readonly firstByteMs?: number
  /** The digest that it has. */
  readonly digest?: Digest
  /** What went wrong, in words. */
  readonly problem?: string
  /** Whether a pull would not ask it now. */
  readonly isAside: boolean
}

export interface Asking {
  /** Milliseconds until the lookup found its first peer; missing if it found none. */
  readonly firstPeerMs?: number
  /** Milliseconds until the lookup was over. */
  readonly lookupMs: number
  /** How many peers the lookup found. */
  readonly found: number
  /** What those said that were asked. */
  readonly answers: readonly PeerTrace[]
}

/** How long one lookup may take, in milliseconds: longer than pulls wait, to see who is found too late for them. */
const LOOKUP_LIMIT = 2_000
/** Peers that are found and asked for one part. A pull asks three at a time. */
const MAX_FOUND = 20
const MAX_ASKED = 4
/** How long the first byte may take after the head, in milliseconds. */
const BYTE_LIMIT = 3_000

/** Looks for peers of what the request is about, to the end of the lookup, and asks some of them all at once. */
export async function askPeers(
  dependencies: AskingDependencies,
  request: PeerRequest,
  signal: AbortSignal,
): Promise<Asking> {
  const startedAt = performance.now()
  const peers = new Map<string, Peer>()
  let firstPeerMs: number | undefined
  const over = new AbortController()
  const stop = () => over.abort()
  const timer = setTimeout(stop, LOOKUP_LIMIT)
  signal.addEventListener('abort', stop, { once: true })
  try {
    for await (const peer of dependencies.router.lookup(targetKey(request.target), over.signal)) {
      firstPeerMs ??= performance.now() - startedAt
      peers.set(addressOf(peer), peer)
      if (peers.size === MAX_FOUND) break
    }
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
    stop()
  }
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
    // No first byte exists of a blob that is empty.
    if (answer.kind === 'unsatisfiable') return { ...told, outcome: 'content', headMs }
    const { digest } = answer.descriptor
    if (request.method === 'HEAD') return { ...told, outcome: 'content', headMs, digest }
    const cancel = () => void answer.body.cancel()
    const timer = setTimeout(cancel, BYTE_LIMIT)
    signal.addEventListener('abort', cancel, { once: true })
    try {
      const chunk = await answer.body.next()
      if (chunk === undefined) return { ...told, outcome: 'silent', headMs, problem: 'a head, but no byte' }
      return { ...told, outcome: 'content', headMs, firstByteMs: spent(), digest }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', cancel)
      cancel()
    }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof PeerError)) throw error
    return { ...told, outcome: error.failure, headMs: spent(), problem: error.message }
  }
}
