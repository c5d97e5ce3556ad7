import type { Metrics } from '../observe/metrics.ts'
import type { Descriptor } from '../oci/descriptor.ts'
import { MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'
import type { BlobTarget } from '../oci/path.ts'
import { type ByteRange, lengthOf, parseRange } from '../oci/range.ts'
import { patientClock } from '../peers/patient-clock.ts'
import { type ByteSource, bytesSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerRequest } from './ask.ts'
import { begun } from './begun.ts'
import { Flows, type OpenFlow } from './flows.ts'
import { createTransferMetrics } from './metrics.ts'
import { readVerified } from './read-verified.ts'
import type { SearchDependencies } from './search.ts'
import { SharedFlow } from './share.ts'
import { Slots } from './slots.ts'
import { type Opened, Transfer, type TransferOptions } from './transfer.ts'
import { Verifier, verified } from './verify.ts'

export type { PeerRequest } from './ask.ts'

export type PeerAnswer =
  | {
      readonly kind: 'content'
      readonly descriptor: Descriptor
      /** Which part the body is; the whole if missing. */
      readonly range: ByteRange | undefined
      /** Nothing for HEAD. To be read to its end or cancelled. */
      readonly body: ByteSource | null
    }
  | { readonly kind: 'unsatisfiable'; readonly size: number }

/** Gets what this node has not from those that do. */
export interface PeerContent {
  /**
   * The content from peers, of which the first bytes are there; `undefined` when nobody has it, or nobody gives it in time.
   * Never throws for a peer's fault.
   */
  fetch(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined>
}

/** The whole of a blob on its way. */
interface Whole {
  readonly source: ByteSource
  /** What has seen exactly the bytes that the source has given; missing if they are not verified any more, or at all. */
  readonly verifier?: Verifier | undefined
  /** Who gave any of the bytes so far. */
  readonly givers: () => readonly Peer[]
}

export type PeerContentDependencies = Omit<SearchDependencies, 'metrics'> & { readonly metrics: Metrics }

export interface PeerContentOptions extends TransferOptions {
  /** Whether blobs are hashed as they pass; manifests always are. */
  readonly verify: boolean
  /** Bytes of one blob that are kept for requests that join its transfer. */
  readonly window?: number
  /** Bytes that all transfers together keep for that at most. */
  readonly totalWindow?: number
}

/** A millisecond of a fast network, a tenth of a second of a slow one: by that much a second request may come later. */
const WINDOW = 1024 * 1024
const TOTAL_WINDOW = 8 * 1024 * 1024
/**
 * Blobs up to this size are read whole and verified before their first byte is sent, as manifests are: then wrong content
 * costs a question to another peer, not the pull. Configs are a few KiB; what is held is little even for many at a time.
 */
const SMALL_BLOB = 64 * 1024

/** Gets content from the peers that the router finds: the first that answers, then others where one breaks off. */
export function createPeerContent(dependencies: PeerContentDependencies, options: PeerContentOptions): PeerContent {
  const { clock = patientClock } = dependencies
  const metrics = createTransferMetrics(dependencies.metrics)
  const flows = new Flows()
  const slots = new Slots()
  const window = () =>
    Math.min(options.window ?? WINDOW, (options.totalWindow ?? TOTAL_WINDOW) / Math.max(flows.size, 1))
  const begin = (target: PeerRequest['target']) => new Transfer({ ...dependencies, metrics }, options, target)

  /** The head alone, or what has no body. */
  async function fetchHead(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined> {
    const transfer = begin(request.target)
    return await ending(transfer, async () => {
      const winner = await transfer.open(request, signal)
      if (winner !== undefined) transfer.took(0, [winner.peer])
      transfer.finish(winner === undefined ? 'missing' : 'complete')
      if (winner?.value.kind !== 'content') return winner?.value
      return { ...winner.value, body: null }
    })
  }

  async function fetchManifest(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined> {
    const transfer = begin(request.target)
    return await ending(transfer, async () => {
      for (;;) {
        const opened = openedOf(await transfer.open(request, signal))
        if (opened === undefined) {
          transfer.finish('missing')
          return undefined
        }
        const bytes = await readVerified(transfer, opened, MANIFEST_SIZE_LIMIT, clock, signal)
        if (bytes === undefined) continue
        transfer.finish('complete')
        return { kind: 'content', descriptor: opened.head.descriptor, range: undefined, body: bytesSource(bytes) }
      }
    })
  }

  /** Opens the transfer of a whole blob, which several requests may read. */
  async function openFlow(target: BlobTarget, signal: AbortSignal): Promise<OpenFlow | undefined> {
    const transfer = begin(target)
    return await ending(transfer, async () => {
      for (;;) {
        const opened = openedOf(await transfer.open({ method: 'GET' }, signal))
        if (opened === undefined) {
          transfer.finish('missing')
          return undefined
        }
        const { descriptor } = opened.head
        if (!options.verify || descriptor.size > SMALL_BLOB) return flowOf(target, transfer, opened, signal)
        const bytes = await readVerified(transfer, opened, SMALL_BLOB, clock, signal)
        if (bytes === undefined) continue
        transfer.finish('complete')
        return share(target, descriptor, { source: bytesSource(bytes), givers: () => [] }, signal)
      }
    })
  }

  function flowOf(target: BlobTarget, transfer: Transfer, opened: Opened, begun: AbortSignal): OpenFlow {
    const { descriptor } = opened.head
    const resuming = transfer.resuming(opened)
    const verifier = options.verify ? new Verifier(descriptor.digest) : undefined
    const source = verifier === undefined ? resuming : verified(resuming, verifier, descriptor.size)
    const recorded = transfer.recorded(source, resuming, descriptor, descriptor.size)
    return share(target, descriptor, { source: recorded, verifier, givers: () => resuming.contributors }, begun)
  }

  function share(target: BlobTarget, descriptor: Descriptor, { source, verifier, givers }: Whole, begun: AbortSignal) {
    const flow = new SharedFlow(
      {
        source,
        size: descriptor.size,
        verifier,
        alone: (start, end, seen) => {
          metrics.transferShares.inc({ what: 'left' })
          return alone(target, descriptor, { start, end }, seen, givers())
        },
        slots,
        onRetire: () => flows.remove(target.digest, begun),
      },
      window,
    )
    return { descriptor, flow }
  }

  /**
   * A part of a blob that is known already, for one reader. It is verified if it is all that is left.
   *
   * @param seen has seen what comes before it, which is of `givers`
   */
  function alone(
    target: BlobTarget,
    descriptor: Descriptor,
    { start, end }: { readonly start: number; readonly end: number },
    seen: Verifier | undefined,
    givers: readonly Peer[] = [],
  ) {
    const transfer = begin(target)
    const resuming = transfer.fromAnybody(descriptor, start, end, givers)
    const isVerified = seen !== undefined && end === descriptor.size
    const source = isVerified ? verified(resuming, seen, end - start) : resuming
    return transfer.recorded(source, resuming, descriptor, end - start, givers)
  }

  async function fetchPart(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined> {
    const transfer = begin(request.target)
    return await ending(transfer, async () => {
      const winner = await transfer.open(request, signal)
      const opened = openedOf(winner)
      if (opened === undefined) {
        transfer.finish(winner === undefined ? 'missing' : 'complete')
        return winner?.value.kind === 'unsatisfiable' ? winner.value : undefined
      }
      const { descriptor, range } = opened.head
      const resuming = transfer.resuming(opened)
      const length = range === undefined ? descriptor.size : lengthOf(range)
      const body = transfer.recorded(resuming, resuming, descriptor, length)
      return { kind: 'content', descriptor, range, body }
    })
  }

  async function fetchBlob(target: BlobTarget, request: PeerRequest, signal: AbortSignal) {
    // A part is only taken from a transfer that is under way already: nobody shall wait for what comes before it.
    if (!asksForWhole(request.range) && !flows.has(target.digest)) return await fetchPart(request, signal)
    const use = ({ descriptor, flow }: OpenFlow, joined: boolean): PeerAnswer => {
      const requested = parseRange(request.range ?? null, descriptor.size)
      if (requested.kind === 'unsatisfiable') return { kind: 'unsatisfiable', size: descriptor.size }
      const range = requested.kind === 'part' ? requested.range : undefined
      const start = range?.start ?? 0
      const end = range === undefined ? descriptor.size : range.end + 1
      const attached = flow.attach(start, end)
      if (joined && attached !== undefined) metrics.transferShares.inc({ what: 'joined' })
      const fresh = options.verify && start === 0 ? new Verifier(descriptor.digest) : undefined
      const body = attached ?? alone(target, descriptor, { start, end }, fresh)
      return { kind: 'content', descriptor, range, body }
    }
    return await flows.join(target.digest, (stop) => openFlow(target, stop), use, signal)
  }

  return {
    async fetch(request, signal) {
      signal.throwIfAborted()
      if (request.method === 'HEAD') return await fetchHead(request, signal)
      if (request.target.kind === 'manifest') return await fetchManifest(request, signal)
      const { target } = request
      return await begun(() => fetchBlob(target, request, signal), signal)
    },
  }
}

function openedOf(winner: { readonly peer: Opened['peer']; readonly value: { kind: string } } | undefined) {
  return winner?.value.kind === 'content' ? ({ peer: winner.peer, head: winner.value } as Opened) : undefined
}

/** Runs the opening of a transfer. What it throws ends the transfer. */
async function ending<T>(transfer: Transfer, open: () => Promise<T>): Promise<T> {
  try {
    return await open()
  } catch (error) {
    transfer.finish('cancelled')
    throw error
  }
}

/** Whether a Range header asks for everything whatever the size: none, one that does not count, or containerd's `bytes=0-`. */
function asksForWhole(range: string | undefined): boolean {
  if (range === undefined) return true
  const requested = parseRange(range, Number.MAX_SAFE_INTEGER)
  if (requested.kind !== 'part') return requested.kind === 'whole'
  return requested.range.start === 0 && requested.range.end === Number.MAX_SAFE_INTEGER - 1
}
