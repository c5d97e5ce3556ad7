import type { Logger } from '../../observe/log.ts'
import { bounded } from '../../platform/abort.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { NodeAddress } from '../node.ts'

/** Another member: where it is, and its public key in hex. */
export interface FoundMember extends NodeAddress {
  readonly id: string
}

export interface ConnectorDependencies {
  readonly log: Logger
  /** Members with a connection, by their public key in hex. */
  members(): ReadonlySet<string>
  /** Other members. */
  find(signal: AbortSignal): AsyncIterable<FoundMember>
  /** Connects to a member, and goes on trying for a while. */
  join(member: FoundMember): void
  /** Tries no more. */
  leave(id: string): void
  readonly clock?: Clock
}

export interface ConnectorOptions {
  /** To how many members this node connects itself; as many again may connect to it. */
  readonly target?: number
  /** Milliseconds from one search to the next, at first and at most: see INTERVAL. */
  readonly interval?: readonly [first: number, most: number]
}

/** Half of what is accepted (see membership.ts), so that a newcomer finds room. Up to 17 nodes, all are connected. */
const TARGET = 16
/** Twice as long each time, while nothing changes. */
const INTERVAL = [3_000, 60_000] as const
/** Milliseconds that a search may take. */
const FIND_TIMEOUT = 5_000

/** Keeps this node connected to some of the members that it knows. */
export class Connector {
  readonly #dependencies: ConnectorDependencies
  readonly #clock: Clock
  readonly #target: number
  readonly #interval: readonly [first: number, most: number]
  /** Members that this node tries to be connected to. */
  readonly #joined = new Set<string>()
  readonly #stop = new AbortController()
  #pause: number
  /** When the next search begins; infinite while one is under way. */
  #searchesAt = Number.POSITIVE_INFINITY
  #cancel = (): void => undefined

  constructor(dependencies: ConnectorDependencies, { target = TARGET, interval = INTERVAL }: ConnectorOptions = {}) {
    this.#dependencies = dependencies
    this.#clock = dependencies.clock ?? systemClock
    this.#target = target
    this.#interval = interval
    this.#pause = interval[0]
  }

  /** Searches for members and connects to them, now and from then on. */
  start(): void {
    this.#searchesAt = Number.POSITIVE_INFINITY
    const { log } = this.#dependencies
    void this.#search()
      .catch((error) => log.warn('searching for members failed', { error }))
      .finally(() => {
        this.#plan()
        this.#pause = Math.min(this.#pause * 2, this.#interval[1])
      })
  }

  /** Searches soon, since something has changed. */
  soon(): void {
    this.#pause = this.#interval[0]
    const isPlanned = this.#searchesAt < Number.POSITIVE_INFINITY
    if (isPlanned && this.#clock.now() + this.#pause < this.#searchesAt) this.#plan()
  }

  close(): void {
    this.#stop.abort()
    this.#cancel()
    for (const id of this.#joined) this.#dependencies.leave(id)
    this.#joined.clear()
  }

  #plan(): void {
    this.#cancel()
    if (this.#stop.signal.aborted) return
    this.#searchesAt = this.#clock.now() + this.#pause
    this.#cancel = this.#clock.after(this.#pause, () => this.start())
  }

  async #search(): Promise<void> {
    const { members, find, join, leave } = this.#dependencies
    const connected = members()
    for (const id of this.#joined) {
      if (connected.has(id)) continue
      this.#joined.delete(id)
      leave(id)
    }
    if (connected.size >= this.#target) return
    const wanted = new Set([...connected, ...this.#joined])
    await bounded(FIND_TIMEOUT, this.#stop.signal, async (signal) => {
      for await (const member of find(signal)) {
        if (signal.aborted || wanted.size >= this.#target) break
        if (wanted.has(member.id)) continue
        wanted.add(member.id)
        this.#joined.add(member.id)
        join(member)
      }
    })
  }
}
