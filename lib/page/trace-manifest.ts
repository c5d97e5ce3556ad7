import process from 'node:process'
import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import { MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'
import type { ManifestTarget } from '../oci/path.ts'
import { PeerError } from '../peers/error.ts'
import { fileResponse } from '../platform/file-response.ts'
import type { Body, ContentStore } from '../store/store.ts'
import { ask } from '../transfer/ask.ts'
import { VerificationError, verify } from '../transfer/verify.ts'
import type { LocalAsker } from './local.ts'
import type { Asking, AskingDependencies } from './trace-peers.ts'

export interface ManifestContent {
  readonly mediaType: string
  readonly bytes: Uint8Array
}

/** How long reading a manifest from a peer may take, in milliseconds. */
const READ_LIMIT = 5_000

/** A manifest from this node, or else from a peer that has said that it has it; `undefined` if nobody gives it. */
export async function readManifest(
  dependencies: AskingDependencies & { readonly local: LocalAsker },
  target: ManifestTarget & { readonly reference: { readonly digest: Digest } },
  asking: Asking,
  signal: AbortSignal,
): Promise<ManifestContent | undefined> {
  const { digest } = target.reference
  const held = await dependencies.local((store, over) => readHere(store, digest, over), signal)
  if (held.value !== undefined) return held.value
  for (const { address, outcome } of asking.answers) {
    const manifest = outcome === 'content' ? await readFromPeer(dependencies, target, address, signal) : undefined
    if (manifest !== undefined) return manifest
  }
  return undefined
}

async function readHere(
  store: ContentStore,
  digest: Digest,
  signal: AbortSignal,
): Promise<ManifestContent | undefined> {
  const descriptor = await store.describe(digest, signal)
  if (descriptor === undefined || descriptor.size > MANIFEST_SIZE_LIMIT) return undefined
  const body = await store.open(digest, undefined, signal)
  return body === undefined ? undefined : { mediaType: descriptor.mediaType, bytes: await bytesOf(body) }
}

async function readFromPeer(
  { client, credentials }: AskingDependencies,
  target: ManifestTarget & { readonly reference: { readonly digest: Digest } },
  address: string,
  signal: AbortSignal,
): Promise<ManifestContent | undefined> {
  const at = address.lastIndexOf(':')
  const peer = { host: address.slice(0, at), port: Number(address.slice(at + 1)) }
  try {
    const answer = await ask(client, credentials, peer, { target, method: 'GET' }, signal)
    if (answer.kind !== 'content') return undefined
    const { body, descriptor } = answer
    const cancel = () => void body.cancel()
    const timer = setTimeout(cancel, READ_LIMIT)
    signal.addEventListener('abort', cancel, { once: true })
    try {
      const chunks: Uint8Array[] = []
      let missing = Math.min(descriptor.size, MANIFEST_SIZE_LIMIT)
      while (missing > 0) {
        const chunk = await body.next()
        if (chunk === undefined) break
        missing -= chunk.length
        chunks.push(new Uint8Array(chunk))
      }
      const bytes = Buffer.concat(chunks)
      verify(bytes, target.reference.digest)
      return { mediaType: descriptor.mediaType, bytes }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', cancel)
      cancel()
    }
  } catch (error) {
    signal.throwIfAborted()
    // What the peer said when it was asked before stands in the trace; now it has changed its mind.
    if (error instanceof PeerError || error instanceof VerificationError) return undefined
    throw error
  }
}

async function bytesOf(body: Body): Promise<Uint8Array> {
  const response = body.kind === 'file' ? fileResponse(body, {}) : new Response(body.stream)
  return new Uint8Array(await response.arrayBuffer())
}

/** The child of an index that a node like this one takes: of its architecture, or else the first. */
export function preferredChild(index: Uint8Array, children: readonly Descriptor[]): Descriptor | undefined {
  const { manifests } = JSON.parse(new TextDecoder().decode(index)) as { readonly manifests?: unknown }
  const list: readonly unknown[] = Array.isArray(manifests) ? manifests : []
  const isOwn = (entry: unknown) => {
    const { os, architecture } = (entry as { platform?: { os?: unknown; architecture?: unknown } }).platform ?? {}
    return os === 'linux' && architecture === (GO_NAMES[process.arch] ?? process.arch)
  }
  return children[Math.max(list.findIndex(isOwn), 0)]
}

/** What an image's platform calls the architectures that Node calls otherwise. */
const GO_NAMES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }
