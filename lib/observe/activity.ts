import { type Descriptor, type Digest, isDigest } from '../oci/digest.ts'
import { targetKey } from '../oci/key.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import type { ContentTarget } from '../oci/path.ts'
import { formatReference } from '../oci/reference.ts'
import { BoundedMap } from '../platform/bounded-map.ts'

/** Where the content of an answer came from. `none`: no node had it, so containerd asks upstream. */
export const SOURCES = ['local', 'peer', 'none'] as const
export type PartSource = (typeof SOURCES)[number]

/** An answer of the registry door, at the moment of its head. */
export interface Answered {
  readonly target: ContentTarget
  readonly source: PartSource
  /** Bytes of content that the head declares. */
  readonly bytes: number
  /** Milliseconds until the head of the answer. */
  readonly headMs: number
  /** Missing if the answer has no content. */
  readonly descriptor?: Pick<Descriptor, 'size' | 'mediaType'> | undefined
  /** Whether the answer was left to upstream, which resolves it. */
  readonly isForUpstream?: boolean | undefined
}

/** How a transfer from other nodes ended. */
export const TRANSFER_OUTCOMES = ['complete', 'missing', 'cancelled', 'failed', 'corrupt'] as const
export type TransferOutcome = (typeof TRANSFER_OUTCOMES)[number]

/** How much of some content one peer gave, and why it stopped. */
export interface Attempt {
  /** The peer's address. */
  readonly peer: string
  /** Milliseconds from the start of the transfer until the peer was asked, and until its last byte or its end. */
  readonly from: number
  to: number
  bytes: number
  /** Whether the peer was still getting the content itself. */
  isArriving?: true
  /**
   * Missing if the peer gave all that it was asked for, or still does. `late`: it took too long to be waited for. `gone`: it
   * does not get the content any more. `moved`: a keeper has named a better peer to follow.
   */
  ended?: 'unreachable' | 'silent' | 'invalid' | 'slow' | 'busy' | 'missing' | 'late' | 'gone' | 'moved'
}

/** A transfer from other nodes. It changes until it has an outcome. */
export interface Transferred {
  /** Milliseconds since 1970. */
  readonly startedAt: number
  outcome?: TransferOutcome
  bytes: number
  /** The first attempts, in the order in which the peers were asked; bounded. */
  readonly attempts: readonly Attempt[]
}

/** One piece of content of a pull. */
export interface PullPart {
  /** The digest, or `registry/repository:tag`. */
  readonly key: string
  readonly kind: ContentTarget['kind']
  /**
   * When containerd asked for it, and when containerd had all of it, in milliseconds since 1970. `endedAt` is missing until
   * then.
   */
  startedAt: number
  endedAt?: number
  /** Of the last answer; missing before the first one. */
  source?: PartSource
  headMs?: number
  /** Size and media type of the whole content, once they are known. */
  size?: number
  mediaType?: string
  /** Bytes that were there at the last look, while containerd gets it from upstream. */
  arrived?: number
  /** The last transfers from peers. */
  transfers: readonly Transferred[]
  /** Whether upstream was to resolve it, even if nodes have it. */
  isForUpstream?: true
}

/** Requests for the content of one image, each soon after the last. */
export interface Pull {
  /** Larger than the id of the pull before. */
  readonly id: number
  /** `registry/repository`, with the tag or the digest once a request has named it. */
  name: string
  /** Milliseconds since 1970. */
  readonly startedAt: number
  lastAt: number
  readonly parts: readonly PullPart[]
  /** How many requests there were for more parts, of which nothing is kept. */
  more: number
}

/** Sums over all answers of the registry door since the start. */
export interface Totals {
  readonly requests: Readonly<Record<PartSource, number>>
  /** Bytes that containerd got from this node's store (as declared), from peers, and from upstream (as far as is known). */
  readonly bytes: { readonly local: number; readonly peer: number; readonly upstream: number }
  /** Transfers that gave only a part of the content, or wrong content. */
  readonly failures: number
}

/** What this node's store knows about a digest. */
export interface Here {
  /** Its descriptor, if it is here. */
  describe(digest: Digest): Promise<Descriptor | undefined>
  /** How much of it is here while containerd writes it. */
  arriving(digest: Digest): Promise<{ readonly size: number | undefined; readonly written: number } | undefined>
}

const DEFAULTS = {
  /**
   * How many pulls are kept, how many parts of each pull, and how many transfers of each part. That takes 1 MiB, and 6 MiB if
   * peers fail for every part (measured).
   */
  pulls: 20,
  parts: 64,
  transfers: 3,
  /** How many digests that were left to upstream are remembered until their size is known, and for how many milliseconds. */
  missed: 200,
  patience: 600_000,
  /** After this many milliseconds without a request for a repository, the next request begins another pull. */
  quiet: 30_000,
  /** Milliseconds since 1970. */
  now: Date.now,
}

/** `open`: how many requests for the part are being answered. */
type GrowingPart = PullPart & { open: number; transfers: Transferred[] }
type Growing = Omit<Pull, 'parts'> & { readonly parts: GrowingPart[]; readonly repository: string; tagged: boolean }

/** The last pulls and how they went, for people. It is kept in memory and bounded; Prometheus has the whole history. */
export class Activity {
  readonly #options: typeof DEFAULTS
  readonly #pulls: Growing[] = []
  /** Newest first. */
  readonly pulls: readonly Pull[] = this.#pulls
  readonly #totals = {
    requests: { local: 0, peer: 0, none: 0 },
    bytes: { local: 0, peer: 0, upstream: 0 },
    failures: 0,
  }
  readonly totals: Totals = this.#totals
  /** Digests that were left to upstream: since when, and how many bytes peers had given before. The oldest come first. */
  readonly #missed: BoundedMap<{ readonly since: number; readonly given: number }, Digest>
  #count = 0

  constructor(options: Partial<typeof DEFAULTS> = {}) {
    this.#options = { ...DEFAULTS, ...options }
    this.#missed = new BoundedMap(this.#options.missed)
  }

  /**
   * Notes an answer of the registry door.
   *
   * @returns a function to call when the answer has ended
   */
  answered({ target, source, bytes, headMs, descriptor, isForUpstream = false }: Answered): () => void {
    // This mirror did not look for it, so it is neither a hit nor a miss.
    if (!isForUpstream) this.#totals.requests[source]++
    if (source === 'local') this.#totals.bytes.local += bytes
    const pull = this.#pullOf(target)
    const part = this.#partOf(pull, target, headMs)
    this.#noteMiss(targetKey(target), source === 'none' && !isForUpstream ? (part?.transfers ?? []) : undefined)
    if (part === undefined) {
      pull.more++
      return () => undefined
    }
    Object.assign(part, { source, headMs, size: descriptor?.size ?? part.size })
    if (descriptor !== undefined) part.mediaType = descriptor.mediaType
    if (isForUpstream) part.isForUpstream = true
    else delete part.isForUpstream
    part.open++
    return () => {
      pull.lastAt = this.#options.now()
      part.open--
      if (part.open === 0) part.endedAt = pull.lastAt
    }
  }

  /**
   * Notes a transfer. Call it twice: when the transfer begins, and when it has its outcome, perhaps long after the answer's
   * head.
   */
  transferred(target: ContentTarget, transfer: Transferred): void {
    const { bytes, outcome } = transfer
    if (outcome === undefined) {
      const part = this.#partOf(this.#pullOf(target), target)
      if (part === undefined) return
      // Transfers of an earlier request that got no content do not belong to this one.
      if (part.open === 0 && part.transfers.every((one) => one.outcome !== undefined && !isBroken(one)))
        Object.assign(part, { transfers: [], startedAt: this.#options.now() })
      part.transfers.push(transfer)
      if (part.transfers.length > this.#options.transfers) part.transfers.shift()
      return
    }
    this.#totals.bytes.peer += bytes
    for (const pull of this.#pulls) {
      const part = pull.parts.find(({ transfers }) => transfers.includes(transfer))
      if (part === undefined) continue
      pull.lastAt = this.#options.now()
      // The client left before there was an answer.
      if (outcome === 'cancelled' && part.open === 0) part.endedAt = pull.lastAt
    }
    if (!isBroken(transfer)) return
    this.#totals.failures++
    this.#noteMiss(targetKey(target), [transfer])
  }

  /**
   * Completes parts with facts that were unknown when they were asked for: the size of content from upstream, or how much of it
   * is there, and which blob is a layer.
   */
  async learn({ describe, arriving }: Here): Promise<void> {
    const isLate = (since: number) => this.#options.now() - since > this.#options.patience
    const parts = this.#pulls.flatMap((pull) => pull.parts)
    const open = parts.filter(
      ({ mediaType = OCTET_STREAM, startedAt }) => mediaType === OCTET_STREAM && !isLate(startedAt),
    )
    for (const digest of new Set([...this.#missed.keys(), ...open.map(({ key }) => key)])) {
      if (!isDigest(digest)) continue
      const descriptor = await describe(digest)
      const missed = this.#missed.get(digest)
      const arrival = descriptor === undefined && missed !== undefined ? await arriving(digest) : undefined
      for (const part of parts) {
        if (part.key !== digest) continue
        delete part.arrived
        if (descriptor !== undefined) Object.assign(part, { size: descriptor.size, mediaType: descriptor.mediaType })
        if (arrival !== undefined) Object.assign(part, { size: arrival.size ?? part.size, arrived: arrival.written })
      }
      if (missed === undefined) continue
      if (descriptor === undefined) {
        if (isLate(missed.since)) this.#missed.delete(digest)
        // A concurrent look may have deleted it already.
      } else if (this.#missed.delete(digest)) this.#totals.bytes.upstream += Math.max(descriptor.size - missed.given, 0)
    }
  }

  /** @param transfers what peers gave before it was left to upstream; `undefined` if it was not left to upstream */
  #noteMiss(key: string, transfers: readonly Transferred[] | undefined): void {
    if (!isDigest(key)) return
    this.#missed.delete(key)
    if (transfers === undefined) return
    // containerd keeps nothing of corrupt content.
    const failed = transfers.filter(({ outcome }) => outcome === 'failed')
    const given = failed.reduce((sum, { bytes }) => sum + bytes, 0)
    this.#missed.set(key, { since: this.#options.now(), given })
  }

  /**
   * The part that a request is for. If an earlier request for it broke off or still runs, the part goes on; if the earlier one
   * is over, the part begins anew.
   *
   * @param ago milliseconds since the request came
   */
  #partOf(pull: Growing, target: ContentTarget, ago = 0): GrowingPart | undefined {
    const now = this.#options.now()
    pull.lastAt = now
    const key = targetKey(target)
    const fresh = (): GrowingPart => ({ key, kind: target.kind, startedAt: now - ago, transfers: [], open: 0 })
    const known = pull.parts.find((part) => part.key === key)
    if (known === undefined) {
      if (pull.parts.length >= this.#options.parts) return undefined
      const part = fresh()
      pull.parts.push(part)
      return part
    }
    if (known.endedAt === undefined) return known
    delete known.endedAt
    if (known.transfers.some(isBroken)) return known
    delete known.source
    return Object.assign(known, fresh())
  }

  #pullOf(target: ContentTarget): Growing {
    const { pulls, quiet, now } = this.#options
    const repository = `${target.registry}/${target.repository}`
    const { tag } = target
    // A pull by digest is named after its first manifest.
    const name = target.kind === 'blob' ? repository : formatReference(target)
    const open = this.#pulls.find(
      (pull) =>
        pull.repository === repository &&
        (now() - pull.lastAt < quiet || pull.parts.some(isUnderWay)) &&
        (tag === undefined || !pull.tagged || pull.name === name),
    )
    if (open !== undefined) {
      if (tag !== undefined) Object.assign(open, { name, tagged: true })
      return open
    }
    const startedAt = now()
    const pull: Growing = {
      id: ++this.#count,
      name,
      repository,
      tagged: tag !== undefined,
      startedAt,
      lastAt: startedAt,
      parts: [],
      more: 0,
    }
    this.#pulls.unshift(pull)
    this.#pulls.length = Math.min(this.#pulls.length, pulls)
    return pull
  }
}

/** Whether the content is still on its way from a peer. */
function isUnderWay({ source, endedAt, transfers }: PullPart): boolean {
  return (source === 'peer' && endedAt === undefined) || transfers.some(({ outcome }) => outcome === undefined)
}

/** Whether the transfer gave less than it had promised, or wrong content. */
function isBroken({ outcome }: Transferred): boolean {
  return outcome === 'failed' || outcome === 'corrupt'
}
