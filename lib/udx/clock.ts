/** Time as the protocol sees it. Injected, so that tests run on a virtual one. */
export interface UdxClock {
  /** Monotonic time in milliseconds, with fractions. */
  now(): number
  /** Calls back once, after at least `delay` milliseconds. A `background` timer does not keep the process alive. */
  setTimer(callback: () => void, delay: number, background?: boolean): unknown
  clearTimer(timer: unknown): void
  /** Calls back at the end of this turn of the event loop, when everything that the sockets had to read has been handled. */
  defer(callback: () => void): void
}

/** The runtime's own time. */
export function createSystemClock(): UdxClock {
  return {
    now: () => performance.now(),
    setTimer(callback, delay, background = false) {
      const timer = setTimeout(callback, delay)
      if (background) timer.unref()
      return timer
    },
    clearTimer: (timer) => clearTimeout(timer as NodeJS.Timeout),
    defer: (callback) => {
      setImmediate(callback)
    },
  }
}

/**
 * One timer whose deadline moves often. Postponing the deadline costs nothing: the running timer is left alone, and when it
 * fires early it is set again for the rest.
 */
export class Alarm {
  readonly #clock: UdxClock
  readonly #ring: () => void
  readonly #background: boolean
  readonly #onTimer: () => void
  #timer: unknown
  #due = Number.POSITIVE_INFINITY
  #deadline = Number.POSITIVE_INFINITY

  constructor(clock: UdxClock, ring: () => void, background = false) {
    this.#clock = clock
    this.#ring = ring
    this.#background = background
    this.#onTimer = () => this.#fire()
  }

  /** When it will ring, in time of the clock; infinity if it is off. */
  get deadline(): number {
    return this.#deadline
  }

  /**
   * Rings at `deadline` (time of the clock, in milliseconds), no longer at the one that was set before. Infinity turns it off.
   */
  set(deadline: number): void {
    this.#deadline = deadline
    if (deadline === Number.POSITIVE_INFINITY || this.#due <= deadline) return
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer)
    this.#arm()
  }

  /** Turns it off and cancels the timer. */
  close(): void {
    this.#deadline = Number.POSITIVE_INFINITY
    this.#due = Number.POSITIVE_INFINITY
    if (this.#timer !== undefined) this.#clock.clearTimer(this.#timer)
    this.#timer = undefined
  }

  #arm(): void {
    this.#due = this.#deadline
    this.#timer = this.#clock.setTimer(this.#onTimer, Math.max(0, this.#deadline - this.#clock.now()), this.#background)
  }

  #fire(): void {
    this.#timer = undefined
    this.#due = Number.POSITIVE_INFINITY
    if (this.#deadline === Number.POSITIVE_INFINITY) return
    if (this.#clock.now() < this.#deadline) {
      this.#arm()
      return
    }
    this.#deadline = Number.POSITIVE_INFINITY
    this.#ring()
  }
}

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
