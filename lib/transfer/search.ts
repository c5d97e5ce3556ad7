import type { Transferred } from '../observe/activity.ts'
import type { Logger } from '../observe/log.ts'
import { digestKey, targetKey } from '../oci/key.ts'
import { digestNamed } from '../oci/path.ts'
import type { PeerClient } from '../peers/client.ts'
import type { PeerCredentials } from '../peers/credentials.ts'
import { PeerError } from '../peers/error.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { patientClock, until } from '../peers/patient-clock.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer, Router } from '../swarm/router.ts'
import { ask, type PeerHead, type PeerRequest } from './ask.ts'
import { Candidates } from './candidates.ts'
import type { TransferMetrics } from './metrics.ts'
import { race, type Winner } from './race.ts'

export interface SearchDependencies {
  readonly router: Router
  readonly client: PeerClient
  readonly credentials: PeerCredentials
  readonly known: KnownPeers
  readonly metrics: TransferMetrics
  readonly log: Logger
  /** Told of every transfer that is over. */
  readonly onTransfer?: (transfer: Transferred) => void
  readonly clock?: Clock
}

export interface SearchOptions {
  /** Milliseconds for which one lookup may look for peers. */
  readonly lookupTimeout: number
  /** How many peers are asked at the same time at most. */
  readonly parallelPeers: number
  /** Milliseconds after which a race has no winner, unless a peer that is being asked shows that it works. */
  readonly raceTimeout?: number
  /** Milliseconds after which a race has no winner, even so. */
  readonly longestRace?: number
  /** Milliseconds without the head of an answer after which a peer is late, and given up unless it seems to be busy. */
  readonly patience?: number
}

/**
 * How long a client waits for a head, in milliseconds: containerd waits for ever, and upstream is there. Enough for two
 * silent peers in a row, and for one that has many others to answer.
 */
const RACE_TIMEOUT = 3_000
/**
 * The same while a peer that is being asked shows that it works ({@link KnownPeers.mayAnswer}): it has too much to do, and
 * upstream may be slower still, or not there. Below what kubelet and people take for a pull that hangs.
 */
export const LONGEST_RACE = 15_000
/** By how much the race goes on each time, in milliseconds. */
const OVERTIME = 500
/** A head takes some 10 ms on a busy node: after a second a node that nothing else is heard of is dead. */
const PATIENCE = 1_000
/** Lookups for one transfer: peers that join during a long one are found, and a transfer that never ends ends. */
const MAX_LOOKUPS = 4
/** By which part of it, at most, the time after which a busy peer may be asked again is drawn out: not all come at once. */
const JITTER = 0.25

/** The peers that one transfer may come from, in races for who answers first. */
export class Search {
  readonly #dependencies: SearchDependencies
  readonly #options: SearchOptions
  readonly #target: PeerRequest['target']
  readonly #clock: Clock
  /** Addresses. */
  readonly #avoided = new Set<string>()
  /** Addresses of peers that are asked only when a new lookup finds nobody else. */
  readonly #slow = new Set<string>()
  #maySlowGoOn = false
  /** When one that was busy in the present race may be asked again. */
  #freeAt: number | undefined
  #candidates: Candidates | undefined
  #lookups = 0
  #attempts = 0

  constructor(dependencies: SearchDependencies, options: SearchOptions, target: PeerRequest['target']) {
    this.#dependencies = dependencies
    this.#options = options
    this.#target = target
    this.#clock = dependencies.clock ?? patientClock
  }

  /** How many peers have been asked. */
  get attempts(): number {
    return this.#attempts
  }

  /** Does not ask this peer again. */
  avoid(peer: Peer): void {
    this.#avoided.add(addressOf(peer))
  }

  /** Asks this peer again only when there is nobody else, and not to replace another one that is slow. */
  isSlow(peer: Peer): void {
    this.#slow.add(addressOf(peer))
  }

  /** Looks for peers as often as at the beginning. */
  restart(): void {
    this.#lookups = 0
  }

  /**
   * The first good answer: of the peers found before that were not asked yet, or else of those that a new lookup finds. If
   * there is none because peers have too much to do, they are asked again when they say, within the time of a race.
   *
   * @param isReplacement whether there is a peer that goes on if there is no other
   * @returns `undefined` when nobody has it, or nobody answers in time. Never throws for a peer's fault.
   * @throws the signal's reason
   */
  async open(
    request: Omit<PeerRequest, 'target'>,
    signal: AbortSignal,
    isReplacement = false,
  ): Promise<Winner<PeerHead> | undefined> {
    const lastRetry = this.#clock.now() + this.#raceTimeout
    for (;;) {
      const isFresh = this.#candidates === undefined
      this.#maySlowGoOn = isFresh && !isReplacement
      // One that would go on is replaced no more often than it stalls: such lookups leave the others their number.
      if (isFresh && !isReplacement && this.#lookups++ >= MAX_LOOKUPS) return undefined
      this.#candidates ??= this.#lookup()
      const candidates = this.#candidates
      this.#freeAt = undefined
      let winner: Winner<PeerHead> | undefined
      try {
        winner = await this.#race(candidates, { ...request, target: this.#target }, signal)
      } finally {
        candidates.stop()
      }
      if (winner !== undefined) return winner
      this.#candidates = undefined
      if (!isFresh) continue
      const retryAt = this.#retryAt
      if (isReplacement || retryAt === undefined || retryAt > lastRetry) return undefined
      await until(this.#clock, retryAt, signal)
      // Bounded by time: it does not count.
      this.#lookups--
    }
  }

  get #raceTimeout(): number {
    return this.#options.raceTimeout ?? RACE_TIMEOUT
  }

  /** When the search may be begun again because a peer that was busy may not be any more. */
  get #retryAt(): number | undefined {
    if (this.#freeAt === undefined) return undefined
    const now = this.#clock.now()
    return now + (this.#freeAt - now) * (1 + JITTER * Math.random())
  }

  #lookup(): Candidates {
    const { known, metrics } = this.#dependencies
    const digest = digestNamed(this.#target)
    const onLookup = (ms: number, wasFound: boolean) => {
      const found = wasFound ? 'true' : 'false'
      metrics.lookups.inc({ found })
      metrics.lookupSeconds.observe({ found }, ms / 1000)
    }
    return new Candidates(
      { ...this.#dependencies, onLookup },
      targetKey(this.#target),
      this.#options.lookupTimeout,
      {
        suits: (peer) =>
          !this.#avoided.has(addressOf(peer)) &&
          (this.#maySlowGoOn || !this.#slow.has(addressOf(peer))) &&
          (digest === undefined || !known.isWrong(peer, digestKey(digest))),
        isLastResort: (peer) => this.#slow.has(addressOf(peer)),
      },
      known.likely(this.#target),
    )
  }

  async #race(candidates: Candidates, request: PeerRequest, signal: AbortSignal) {
    const { known, metrics } = this.#dependencies
    return await race(
      {
        next: () => candidates.next(),
        ask: (peer, stop) => this.#ask(peer, request, stop),
        release: (head) => void (head.kind === 'content' && head.body.cancel()),
        clock: this.#clock,
      },
      {
        parallel: this.#options.parallelPeers,
        deadline: this.#raceTimeout,
        overtime: {
          step: OVERTIME,
          most: this.#options.longestRace ?? LONGEST_RACE,
          isDue: (peer) => known.mayAnswer(peer),
        },
        hedgeDelay: () => known.hedgeDelay(),
        late: {
          after: this.#options.patience ?? PATIENCE,
          isWorthWaiting: (peer) => this.#isWorthWaiting(peer),
        },
        onHedge: () => metrics.hedges.inc(),
        onOutrun: (peer, waitedMs) => {
          known.outrun(peer, waitedMs)
          metrics.peerRequests.inc({ outcome: 'outrun' })
        },
      },
      signal,
    )
  }

  /** Takes note of a peer that is late. One that seems to be busy may be the only one that has the content. */
  #isWorthWaiting(peer: Peer): boolean {
    const { known, metrics, log } = this.#dependencies
    const key = targetKey(this.#target)
    const isBusy = known.failed(peer, 'silent')
    if (isBusy) log.debug('peer is late', { key, peer })
    else {
      metrics.peerRequests.inc({ outcome: 'silent' })
      log.warn('peer failed', { key, peer, error: new PeerError('no answer in time', { failure: 'silent' }) })
    }
    return isBusy
  }

  /** What the peer has, if it has it. Failures go into the peer's record and the log. */
  async #ask(peer: Peer, request: PeerRequest, signal: AbortSignal): Promise<PeerHead | undefined> {
    const { client, credentials, known, metrics, log } = this.#dependencies
    const key = targetKey(request.target)
    const startedAt = this.#clock.now()
    this.#attempts++
    try {
      const answer = await ask(client, credentials, peer, request, signal)
      if (answer.kind === 'busy') {
        known.busy(peer, answer.retryAfterMs)
        const freeAt = this.#clock.now() + answer.retryAfterMs
        this.#freeAt = Math.min(this.#freeAt ?? freeAt, freeAt)
        metrics.peerRequests.inc({ outcome: 'busy' })
        log.debug('peer is busy', { key, peer })
        return undefined
      }
      known.answered(peer, this.#clock.now() - startedAt)
      metrics.peerRequests.inc({ outcome: answer.kind })
      if (answer.kind === 'content') {
        known.served(request.target, peer)
        return { ...answer, body: tellingOf(answer.body, () => known.gave(peer)) }
      }
      if (answer.kind === 'unsatisfiable') return answer
      log.debug('peer has it not', { key, peer })
      return undefined
    } catch (error) {
      if (signal.aborted || !(error instanceof PeerError)) throw error
      known.failed(peer, error.failure)
      metrics.peerRequests.inc({ outcome: error.failure })
      log.warn('peer failed', { key, peer, error })
      return undefined
    }
  }
}

/** The body, with every chunk told of as it comes. */
function tellingOf(body: ByteSource, onChunk: () => void): ByteSource {
  return {
    async next() {
      const chunk = await body.next()
      if (chunk !== undefined) onChunk()
      return chunk
    },
    cancel: () => body.cancel(),
  }
}
