import type { UdxClock } from './clock.ts'

/** Work that is done once per turn of the event loop, however often it was asked for. */
export interface TurnTask {
  /** Set by {@link Turn}: whether the task is in its list. */
  queued: boolean
  /** Does the work that has gathered. */
  run(now: number): void
}

/**
 * Gathers work until the end of the turn: when all waiting datagrams have been handled, each stream acknowledges and sends
 * once, then each socket hands its datagrams to the system in one go.
 */
export class Turn {
  readonly #clock: UdxClock
  readonly #onEnd = () => this.#end()
  readonly #streams: TurnTask[] = []
  readonly #sockets: TurnTask[] = []
  #deferred = false

  constructor(clock: UdxClock) {
    this.#clock = clock
  }

  addStream(task: TurnTask): void {
    this.#add(task, this.#streams)
  }

  addSocket(task: TurnTask): void {
    this.#add(task, this.#sockets)
  }

  #add(task: TurnTask, tasks: TurnTask[]): void {
    if (task.queued) return
    task.queued = true
    tasks.push(task)
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
    try {
      runAll(this.#streams, now)
    } finally {
      try {
        runAll(this.#sockets, now)
      } finally {
        // Tasks are left over only if a listener of the user has thrown, which must not stop the others.
        if (this.#streams.length > 0 || this.#sockets.length > 0) this.#defer()
      }
    }
  }
}

/** Runs the tasks that are in the list at this moment. */
function runAll(tasks: TurnTask[], now: number): void {
  for (let left = tasks.length; left > 0; left--) {
    const task = tasks.shift() as TurnTask
    task.queued = false
    task.run(now)
  }
}
