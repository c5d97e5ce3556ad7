import type { BlobTarget, ManifestTarget } from '../oci/path.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { BoundedMap } from './bounded-map.ts'
import { patientClock } from './patient-clock.ts'

export interface RecentSourcesOptions {
  /** Milliseconds for which a peer counts as a source of what it gave something of. */
  readonly lifetime?: number
  /** Peers that are remembered for one repository. */
  readonly most?: number
}

/** Longer than the pauses between the requests of one pull, shorter than what a node's garbage collection leaves alone. */
const LIFETIME = 30_000
/** As many as are asked at a time by default: more would hold up those that the lookup finds. */
const MOST = 3
/** Repositories that are remembered, the longest unused go first: many more than are pulled at a time. */
const REPOSITORIES = 200

interface Source {
  readonly peer: Peer
  readonly until: number
}

/**
 * Who has just given something of a repository: a node that holds a manifest holds the image's layers, nearly always, and says
 * in one round trip if it does not. Only peers that proved the swarm key get in.
 */
export class RecentSources {
  readonly #clock: Clock
  readonly #lifetime: number
  readonly #most: number
  /** The latest first. */
  readonly #sources = new BoundedMap<readonly Source[]>(REPOSITORIES)

  constructor(options: RecentSourcesOptions = {}, clock: Clock = patientClock) {
    this.#clock = clock
    this.#lifetime = options.lifetime ?? LIFETIME
    this.#most = options.most ?? MOST
  }

  /** Takes note of a peer that gave what was asked for, with the proof of the swarm key. */
  served(target: ManifestTarget | BlobTarget, peer: Peer): void {
    const repository = repositoryOf(target)
    const others = this.#current(repository).filter((source) => addressOf(source.peer) !== addressOf(peer))
    const sources = [{ peer, until: this.#clock.now() + this.#lifetime }, ...others]
    this.#sources.set(repository, sources.slice(0, this.#most))
  }

  /** Peers that may have it. For a tag there are none: what it stands for may have changed where it was not asked for. */
  of(target: ManifestTarget | BlobTarget): Peer[] {
    if (target.kind === 'manifest' && 'tag' in target.reference) return []
    return this.#current(repositoryOf(target)).map(({ peer }) => peer)
  }

  #current(repository: string): readonly Source[] {
    const now = this.#clock.now()
    return (this.#sources.get(repository) ?? []).filter(({ until }) => until > now)
  }
}

function repositoryOf({ registry, repository }: ManifestTarget | BlobTarget): string {
  return `${registry}/${repository}`
}
