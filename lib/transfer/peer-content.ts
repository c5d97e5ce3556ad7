import type { Transferred } from '../observe/activity.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Descriptor } from '../oci/digest.ts'
import type { BlobTarget } from '../oci/path.ts'
import { type ByteRange, parseRange, type RequestedRange } from '../oci/range.ts'
import type { PeerClient } from '../peers/client.ts'
import type { PeerCredentials } from '../peers/credentials.ts'
import { PeerError } from '../peers/error.ts'
import { patientClock } from '../peers/patient-clock.ts'
import { onAbort } from '../platform/abort.ts'
import { type ByteSource, putBack } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { ask, type PeerRequest } from './ask.ts'
import { createFlow } from './flow.ts'
import { Flows, type OpenFlow } from './flows.ts'
import { FIRST_PIECE } from './givers.ts'
import { createTransferMetrics } from './metrics.ts'
import type { Span } from './piece.ts'
import type { Winner } from './race.ts'
import type { Found } from './search.ts'
import { bytesOf } from './supply.ts'
import { Transfer, type TransferDependencies, type TransferOptions } from './transfer.ts'
import { VerificationError, Verifier } from './verify.ts'

export type { PeerRequest } from './ask.ts'

export type PeerAnswer =
  | {
      readonly kind: 'content'
      readonly descriptor: Descriptor
      /** The range of the body; the whole content if missing. */
      readonly range: ByteRange | undefined
      /** Null for HEAD. The caller reads it to its end or cancels it. */
      readonly body: ByteSource | null
    }
  | { readonly kind: 'unsatisfiable'; readonly size: number }
  /** No peer can send it yet. The client should ask again, after its other downloads. */
  | { readonly kind: 'later'; readonly size: number }

/** Gets content that this node does not have from peers that do. */
export interface PeerContent {
  /**
   * Content from peers, whose first bytes are there; `undefined` if no peer has it, or none sends it in time. Never throws for
   * a peer's failure.
   */
  fetch(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined>
}

export interface PeerContentDependencies
  extends Pick<TransferDependencies, 'flight' | 'known' | 'log' | 'onTransfer' | 'passing'> {
  /** The address of this node's own peer door, which it tells to nodes that it follows; if missing, it follows nobody. */
  readonly address?: string
  readonly client: PeerClient
  readonly credentials: PeerCredentials
  readonly metrics: Metrics
  readonly clock?: Clock
}

export interface PeerContentOptions extends TransferOptions {
  /** Whether blobs are hashed as they pass; manifests always are. */
  readonly verify: boolean
  /** How many bytes of a blob are kept for requests that join its flow. */
  readonly window?: number
}

/** A second request may come a few milliseconds later on a fast network, and a tenth of a second on a slow one. */
const WINDOW = 1024 * 1024
/** The most bytes that all flows together keep for that. */
const TOTAL_WINDOW = 8 * 1024 * 1024
/**
 * Bytes that all transfers together may ask for ahead of their clients. They wait in the buffers of connections, and on Bun
 * half a MiB of each piece in Bun's own memory.
 */
const TOTAL_AHEAD = 8 * 1024 * 1024
/** How many times content is looked for if its first chunk is its last and wrong, each time from other peers. */
const MOST_ATTEMPTS = 3
const SUFFIX = /^bytes=-/i

/** Makes a `PeerContent` that gets content from the peers that the flight names. */
export function createPeerContent(
  { client, credentials, metrics: registry, clock = patientClock, address = '', ...rest }: PeerContentDependencies,
  options: PeerContentOptions,
): PeerContent {
  const flows = new Flows()
  const metrics = createTransferMetrics(registry)
  let running = 0
  const window = () => Math.min(options.window ?? WINDOW, TOTAL_WINDOW / Math.max(flows.size, 1))
  const dependencies = {
    ...rest,
    address,
    clock,
    metrics,
    ask: (peer: Peer, request: PeerRequest, signal: AbortSignal) => ask(client, credentials, peer, request, signal),
    ahead: () => TOTAL_AHEAD / Math.max(running, 1),
    onTransfer(target: PeerRequest['target'], transfer: Transferred) {
      running += transfer.outcome === undefined ? 1 : -1
      rest.onTransfer?.(target, transfer)
    },
  }
  const begin = (target: PeerRequest['target']) => new Transfer(dependencies, options, target)

  /** Begins a transfer, and passes the first good answer to `use`. If there is none, or none of use, the transfer is over. */
  async function opening<T>(
    request: PeerRequest,
    signal: AbortSignal,
    use: (winner: Winner<Found>, transfer: Transfer) => T | undefined,
    start = 0,
  ): Promise<T | undefined> {
    const transfer = begin(request.target)
    try {
      const winner = await transfer.search.open(request, signal, start)
      const opened = winner && use(winner, transfer)
      if (opened === undefined) transfer.finish('missing')
      return opened
    } catch (error) {
      transfer.finish('cancelled')
      throw error
    }
  }

  /** Fetches only the head. */
  async function fetchHead(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined> {
    return await opening(request, signal, ({ peer, value: head }, transfer) => {
      transfer.gave(peer, 0)
      transfer.finish('complete')
      return head.kind === 'unsatisfiable' ? head : { ...head, kind: 'content', body: null, range: undefined }
    })
  }

  /** Fetches a manifest, and verifies it before its first byte is passed on. */
  async function fetchManifest(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined> {
    return await opening(request, signal, ({ peer, value: head }, transfer) => {
      if (head.kind !== 'content') return undefined
      const { descriptor, body } = head
      const span = { start: 0, end: descriptor.size }
      const verifier = new Verifier(descriptor.digest)
      const { source } = bytesOf(transfer, descriptor, span, { peer, body, ...span }, verifier)
      return { kind: 'content', descriptor, range: undefined, body: source }
    })
  }

  /** Opens a flow of a blob, from an offset on, that several requests may read. */
  async function openFlow(target: BlobTarget, wanted: Span, signal: AbortSignal) {
    const { start } = wanted
    const range = `bytes=${start}-${Math.min(start + FIRST_PIECE, wanted.end) - 1}`
    const use = ({ peer, value: head }: Winner<Found>, transfer: Transfer): OpenFlow => {
      if (head.kind === 'unsatisfiable') {
        transfer.finish('complete')
        return { size: head.size }
      }
      const { descriptor } = head
      const { size, digest } = descriptor
      const span = { start, end: Math.min(wanted.end, size) }
      const first =
        head.kind === 'arriving'
          ? { ...peer, isArriving: true as const }
          : { peer, body: head.body, start, end: head.range === undefined ? size : head.range.end + 1 }
      const isWhole = start === 0 && span.end === size
      const verifier = options.verify && isWhole ? new Verifier(digest) : undefined
      const { source, givers } = bytesOf(transfer, descriptor, span, first, verifier)
      const alone = (left: Span, seen: Verifier | undefined) => {
        metrics.transferShares.inc({ what: 'left' })
        const sameEnd = left.end === size ? seen : undefined
        return bytesOf(begin(target), descriptor, left, undefined, sameEnd, givers()).source
      }
      const onRetire = () => flows.remove(signal)
      const flow = createFlow({ source, span, verifier, alone, window, onRetire })
      return { size, content: { descriptor, flow } }
    }
    return await opening({ target, method: 'GET', range }, signal, use, start)
  }

  async function fetchBlob(target: BlobTarget, range: string | undefined, signal: AbortSignal) {
    let requested = parseRange(range ?? null, Number.MAX_SAFE_INTEGER)
    if (requested.kind === 'unsatisfiable' || SUFFIX.test(range ?? '')) {
      // The offset of a suffix range depends on the size.
      const head = await fetchHead({ target, method: 'HEAD' }, signal)
      if (head?.kind !== 'content') return head
      requested = parseRange(range ?? null, head.descriptor.size)
      if (requested.kind === 'unsatisfiable') return { kind: 'unsatisfiable', size: head.descriptor.size } as const
    }
    const wanted = spanOf(requested, Number.MAX_SAFE_INTEGER)
    const use = ({ size, content }: OpenFlow, isJoined: boolean): PeerAnswer | undefined => {
      const part = parseRange(range ?? null, size)
      if (content === undefined || part.kind === 'unsatisfiable') return { kind: 'unsatisfiable', size }
      const { descriptor, flow } = content
      const body = flow.attach(spanOf(part, size))
      if (body === undefined) return undefined
      if (isJoined) metrics.transferShares.inc({ what: 'joined' })
      return { kind: 'content', descriptor, range: part.kind === 'part' ? part.range : undefined, body }
    }
    const open = (stop: AbortSignal) => openFlow(target, wanted, stop)
    return await flows.join(target.digest, wanted.start, use, open, signal)
  }

  return {
    async fetch(request, signal) {
      signal.throwIfAborted()
      const { target, range } = request
      const { digest } = target
      if (request.method === 'HEAD') return await fetchHead(request, signal)
      const find = () =>
        target.kind === 'manifest' ? fetchManifest(request, signal) : fetchBlob(target, range, signal)
      let answer = await begun(find, signal)
      if (answer === undefined && digest !== undefined && (await rest.flight.verified(digest, signal)))
        answer = await begun(find, signal)
      if (answer !== undefined || digest === undefined) return answer
      const size = rest.flight.missed(digest, target.kind === 'blob' && range === undefined)
      return size === undefined ? undefined : { kind: 'later', size }
    },
  }
}

function spanOf(requested: Exclude<RequestedRange, { kind: 'unsatisfiable' }>, size: number): Span {
  return requested.kind === 'part'
    ? { start: requested.range.start, end: requested.range.end + 1 }
    : { start: 0, end: size }
}

/**
 * Waits for the first chunk of an answer. If peers promise content and then send none, that is still a miss, because the client
 * has been told nothing yet.
 *
 * @param find returns an answer; it does not ask peers again that gave wrong content
 * @param signal ends the wait; cancel the body to end it after that
 * @returns `undefined` if no peer sends a byte
 * @throws the signal's reason
 */
export async function begun(
  find: () => Promise<PeerAnswer | undefined>,
  signal: AbortSignal,
): Promise<PeerAnswer | undefined> {
  for (let attempt = 1; ; attempt++) {
    const answer = await find()
    if (answer?.kind !== 'content' || answer.body === null) return answer
    const { body } = answer
    using _ = onAbort(signal, () => void body.cancel())
    try {
      signal.throwIfAborted()
      const first = await body.next()
      return { ...answer, body: putBack(first, body) }
    } catch (error) {
      void body.cancel()
      signal.throwIfAborted()
      if (error instanceof VerificationError && attempt < MOST_ATTEMPTS) continue
      if (error instanceof PeerError || error instanceof VerificationError) return undefined
      throw error
    }
  }
}
