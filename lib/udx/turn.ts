import type { Clock } from './clock.ts'

/** Something that works once per turn of the event loop, however often it was asked for. */
export interface TurnTask {
  /** Set by {@link Turn}: whether the task is in its list. */
  queued: boolean
  /** Does what has gathered. */
  run(now: number): void
}

/**
 * Gathers work to the end of the turn: when the datagrams that were waiting have been handled, each stream acknowledges and
 * sends once, then each socket hands its datagrams to the system in one go.
 */
export class Turn {
  readonly #clock: Clock
  readonly #onEnd = () => this.#end()
  #streams: TurnTask[] = []
  #sockets: TurnTask[] = []
  #deferred = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  addStream(task: TurnTask): void {
    if (task.queued) return
    task.queued = true
    this.#streams.push(task)
    this.#defer()
  }

  addSocket(task: TurnTask): void {
    if (task.queued) return
    task.queued = true
    this.#sockets.push(task)
    this.#defer()
  }

  #defer(): void {
    if (this.#deferred) return
    this.#deferred = true
    this.#clock.defer(this.#onEnd)
  }

  #end(): void {
    this.#deferred = false
    const now = this.#clock.now()
    const streams = this.#streams
    this.#streams = []
    for (const stream of streams) {
      stream.queued = false
      stream.run(now)
    }
    const sockets = this.#sockets
    this.#sockets = []
    for (const socket of sockets) {
      socket.queued = false
      socket.run(now)
    }
  }
}
