export interface MeetingDependencies {
  /** Members with a connection, by their public key in hex. */
  members(): ReadonlySet<string>
  /** Members that have announced themselves, by their public key in hex. */
  find(signal: AbortSignal): AsyncIterable<{ readonly id: string }>
  /** Connects to a member, and goes on trying for a while. */
  join(id: string): void
  /** Tries no more. */
  leave(id: string): void
}

export interface MeetingOptions {
  /** To how many members this node connects itself; as many again may connect to it. */
  readonly target?: number
  /** Milliseconds from one search to the next, at first and at most: they get longer while nothing changes. */
  readonly interval?: readonly [first: number, most: number]
  /** Milliseconds that a search may take. */
  readonly findTimeout?: number
}

/** Half of what is accepted (see membership.ts), so that a newcomer finds room. Up to 17 nodes, all are connected. */
const TARGET = 16
const INTERVAL = [3_000, 60_000] as const
const FIND_TIMEOUT = 5_000

/** Keeps this node connected to members that it finds by their announcements. */
export class Meeting {
  readonly #dependencies: MeetingDependencies
  readonly #options: Required<MeetingOptions>
  /** Whom this node tries to be connected to. */
  readonly #joined = new Set<string>()
  readonly #stop = new AbortController()
  #interval: number
  /** On the clock of `performance.now()`. */
  #next = 0

  constructor(dependencies: MeetingDependencies, options: MeetingOptions = {}) {
    this.#dependencies = dependencies
    this.#options = {
      target: options.target ?? TARGET,
      interval: options.interval ?? INTERVAL,
      findTimeout: options.findTimeout ?? FIND_TIMEOUT,
    }
    this.#interval = this.#options.interval[0]
  }

  /** Searches again at the next occasion: something has changed. */
  soon(): void {
    this.#next = 0
    this.#interval = this.#options.interval[0]
  }

  /** Searches for members and connects to them, if it is time to and there are not enough. */
  async attend(): Promise<void> {
    const { members, find, join, leave } = this.#dependencies
    const { target, interval, findTimeout } = this.#options
    if (this.#stop.signal.aborted || performance.now() < this.#next) return
    this.#next = performance.now() + this.#interval
    this.#interval = Math.min(this.#interval * 2, interval[1])
    const connected = members()
    for (const id of this.#joined) {
      if (connected.has(id)) continue
      this.#joined.delete(id)
      leave(id)
    }
    if (connected.size >= target) return
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(findTimeout)])
    const wanted = new Set([...connected, ...this.#joined])
    for await (const { id } of find(signal)) {
      if (wanted.has(id)) continue
      wanted.add(id)
      this.#joined.add(id)
      join(id)
      if (wanted.size >= target) break
    }
  }

  close(): void {
    this.#stop.abort()
    for (const id of this.#joined) this.#dependencies.leave(id)
    this.#joined.clear()
  }
}
