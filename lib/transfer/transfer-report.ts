import type { Transferred } from '../observe/activity.ts'
import { targetKey } from '../oci/key.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerRequest } from './ask.ts'
import type { SearchDependencies } from './search.ts'

/** What one transfer came to: counted as it goes on, and told once when it is over. */
export class TransferReport {
  readonly #dependencies: SearchDependencies
  readonly #target: PeerRequest['target']
  readonly #clock: Clock
  readonly #startedAt: number
  /** Addresses. */
  readonly #sources = new Set<string>()
  #bytes = 0
  #resumes = 0
  #finished = false

  constructor(dependencies: SearchDependencies, target: PeerRequest['target'], clock: Clock) {
    this.#dependencies = dependencies
    this.#target = target
    this.#clock = clock
    this.#startedAt = clock.now()
    dependencies.metrics.transfersRunning.inc()
  }

  /** Takes note of bytes that came. */
  took(bytes: number): void {
    this.#bytes += bytes
    this.#dependencies.metrics.transferBytes.inc(bytes)
  }

  /** Takes note of peers that gave something. */
  gave(peers: readonly Peer[]): void {
    for (const peer of peers) this.#sources.add(addressOf(peer))
  }

  /** Takes note of a peer that goes on where another one broke off. */
  resumed(): void {
    this.#resumes++
    this.#dependencies.metrics.transferResumes.inc()
  }

  /** Ends it: logged and counted once. */
  finish(outcome: Transferred['outcome'], attempts: number): void {
    if (this.#finished) return
    this.#finished = true
    const { metrics, log, onTransfer } = this.#dependencies
    const ms = this.#clock.now() - this.#startedAt
    const source = [...this.#sources]
    metrics.transfersRunning.dec()
    metrics.transfers.inc({ outcome })
    metrics.transferSeconds.observe({ outcome }, ms / 1000)
    const [bytes, resumes] = [this.#bytes, this.#resumes]
    onTransfer?.({ target: this.#target, outcome, peers: source, bytes, attempts, resumes })
    const tell = outcome === 'missing' && attempts === 0 ? log.debug : log.info
    tell('transfer', {
      key: targetKey(this.#target),
      outcome,
      source,
      bytes,
      ms: Math.round(ms),
      attempts,
      resumes,
    })
  }
}
