/** Tells a loop that waits that something happened, or that no more will be told. */
export interface Bell {
  ring(): void
  /** Makes the current wait and every later one throw. */
  fail(error: unknown): void
  /** Forgets that it was rung. */
  clear(): void
  /** True as soon as it has been rung, false after `time` milliseconds. Throws the signal's reason when that aborts. */
  wait(time: number, signal: AbortSignal): Promise<boolean>
}

export function createBell(): Bell {
  let rung = false
  let failure: { readonly error: unknown } | undefined
  let waking = new AbortController()
  return {
    ring() {
      rung = true
      waking.abort()
    },
    fail(error) {
      failure ??= { error }
      waking.abort()
    },
    clear() {
      rung = false
    },
    async wait(time, signal) {
      if (!rung && failure === undefined) {
        waking = new AbortController()
        const wake = () => waking.abort()
        signal.addEventListener('abort', wake)
        if (!signal.aborted) await pause(time, waking.signal)
        signal.removeEventListener('abort', wake)
      }
      signal.throwIfAborted()
      if (failure !== undefined) throw failure.error
      return rung
    },
  }
}

/** Resolves after `time` milliseconds, or at once when the signal aborts; never throws. */
export function pause(time: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, time)
    signal.addEventListener('abort', done)
  })
}
