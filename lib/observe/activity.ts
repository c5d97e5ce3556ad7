import { targetKey } from '../oci/key.ts'
import type { BlobTarget, ManifestTarget } from '../oci/path.ts'

type Target = ManifestTarget | BlobTarget

/** Where the content of an answer came from; `none`: no node had it, and containerd asks upstream. */
export const SOURCES = ['local', 'peer', 'none'] as const
export type PartSource = (typeof SOURCES)[number]

/** An answer of the registry door, at the moment of its head. */
export interface Answered {
  readonly target: Target
  readonly source: PartSource
  /** Bytes of content that its head declares. */
  readonly bytes: number
  /** Milliseconds until its head. */
  readonly headMs: number
  /** Whether it was left to upstream, which resolves it. */
  readonly isForUpstream?: boolean | undefined
}

/** How a transfer from other nodes ended. */
export const TRANSFER_OUTCOMES = ['complete', 'missing', 'cancelled', 'failed', 'corrupt'] as const

/** A transfer from other nodes that has ended. */
export interface Transferred {
  readonly target: Target
  readonly outcome: (typeof TRANSFER_OUTCOMES)[number]
  /** Addresses of the peers that gave bytes. */
  readonly peers: readonly string[]
  readonly bytes: number
  readonly attempts: number
  readonly resumes: number
}

/** One piece of content of a pull. A later request for it overwrites what is known of an earlier one. */
export interface PullPart {
  /** The digest, or `registry/repository:tag`. */
  readonly key: string
  readonly kind: Target['kind']
  source: PartSource
  bytes: number
  headMs: number
  /** Milliseconds until containerd had all of it; missing while that takes. */
  ms?: number
  /** How the transfer ended, if there was one. */
  outcome?: Transferred['outcome']
  peers: readonly string[]
  attempts: number
  resumes: number
  /** Whether upstream was to resolve it, whoever has it. */
  isForUpstream?: true
}

/** Requests for the content of one image, each soon after the one before. */
export interface Pull {
  /** Larger than that of the pull before. */
  readonly id: number
  /** `registry/repository`, with the tag or the digest once a request named it. */
  name: string
  /** Milliseconds since 1970. */
  readonly startedAt: number
  lastAt: number
  readonly parts: readonly PullPart[]
  /** How many further parts there were, of which nothing is kept. */
  more: number
}

/** What the registry door has answered since the start. */
export interface Totals {
  readonly requests: Readonly<Record<PartSource, number>>
  /** Bytes declared to containerd from the node's own store, and bytes taken from peers. */
  readonly bytes: { readonly local: number; readonly peer: number }
}

const DEFAULTS = {
  /** How many pulls are kept, and how many parts of each: at most some 600 KiB in all. */
  pulls: 20,
  parts: 64,
  /** Milliseconds without a request for a repository after which the next one begins another pull. */
  quiet: 30_000,
  /** Milliseconds since 1970. */
  now: Date.now,
}

type Growing = Pull & { readonly parts: PullPart[]; readonly repository: string; tagged: boolean }

/** The last pulls and what came of them, for people. In memory and bounded; Prometheus has the whole story. */
export class Activity {
  readonly #options: typeof DEFAULTS
  readonly #pulls: Growing[] = []
  readonly #requests = { local: 0, peer: 0, none: 0 }
  readonly #bytes = { local: 0, peer: 0 }
  #count = 0

  constructor(options: Partial<typeof DEFAULTS> = {}) {
    this.#options = { ...DEFAULTS, ...options }
  }

  /** Newest first. */
  get pulls(): readonly Pull[] {
    return this.#pulls
  }

  get totals(): Totals {
    return { requests: this.#requests, bytes: this.#bytes }
  }

  /**
   * Takes note of an answer of the registry door.
   *
   * @returns to be called when the answer has ended, with the milliseconds that it took
   */
  answered({ target, source, bytes, headMs, isForUpstream = false }: Answered): (ms: number) => void {
    // Nobody looked for it, so it is neither a hit nor a miss.
    if (!isForUpstream) this.#requests[source]++
    if (source === 'local') this.#bytes.local += bytes
    const pull = this.#pullOf(target)
    const part = this.#partOf(pull, target)
    if (part === undefined) return () => undefined
    Object.assign(part, { source, bytes: Math.max(bytes, part.bytes), headMs })
    if (isForUpstream) part.isForUpstream = true
    else delete part.isForUpstream
    if (source !== 'peer') Object.assign(part, { peers: [], outcome: undefined, resumes: 0 })
    delete part.ms
    return (ms) => {
      part.ms = ms
      pull.lastAt = this.#options.now()
    }
  }

  /** Takes note of a transfer, which may end before the head of the answer goes out, or long after. */
  transferred({ target, outcome, peers, bytes, attempts, resumes }: Transferred): void {
    this.#bytes.peer += bytes
    const pull = this.#pulls.find((pull) => isUnderWay(pull, target)) ?? this.#pullOf(target)
    const part = this.#partOf(pull, target)
    if (part === undefined) return
    Object.assign(part, { outcome, peers, attempts, resumes })
    if (outcome !== 'complete') part.bytes = bytes
  }

  #partOf(pull: Growing, target: Target): PullPart | undefined {
    pull.lastAt = this.#options.now()
    const key = targetKey(target)
    const known = pull.parts.find((part) => part.key === key)
    if (known !== undefined) return known
    if (pull.parts.length >= this.#options.parts) {
      pull.more++
      return undefined
    }
    const part: PullPart = {
      key,
      kind: target.kind,
      source: 'none',
      bytes: 0,
      headMs: 0,
      peers: [],
      attempts: 0,
      resumes: 0,
    }
    pull.parts.push(part)
    return part
  }

  #pullOf(target: Target): Growing {
    const { pulls, quiet, now } = this.#options
    const repository = repositoryOf(target)
    const tag = target.kind === 'manifest' && 'tag' in target.reference ? target.reference.tag : undefined
    const name = tag === undefined ? nameOf(repository, target) : `${repository}:${tag}`
    const open = this.#pulls.find(
      (pull) =>
        pull.repository === repository &&
        (now() - pull.lastAt < quiet || isUnderWay(pull)) &&
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

/** Whether any content of the pull is still on its way from a peer to containerd; with a `target`, whether that one is. */
function isUnderWay({ parts, repository }: Growing, target?: Target): boolean {
  if (target !== undefined && repository !== repositoryOf(target)) return false
  const key = target === undefined ? undefined : targetKey(target)
  return parts.some((part) => part.source === 'peer' && part.ms === undefined && (key ?? part.key) === part.key)
}

function repositoryOf({ registry, repository }: Target): string {
  return `${registry}/${repository}`
}

/** A pull by digest is named after its first manifest. */
function nameOf(repository: string, target: Target): string {
  if (target.kind === 'blob' || 'tag' in target.reference) return repository
  return `${repository}@${target.reference.digest}`
}
