import { setTimeout as sleep } from 'node:timers/promises'

/** The time between two looks at a condition, in milliseconds: short enough not to delay, long enough to spare the two cores. */
const POLL_MS = 50

/** How long a condition may take, in milliseconds, unless the caller says otherwise. */
export const WAIT_MS = 90_000

/**
 * Waits until the condition returns something other than `undefined` or `false`, and returns that.
 *
 * @param what the condition in words: `waited 90 s for <what>`
 * @throws {Error} after `timeoutMs`, with the last error of the condition as its cause. Errors before that count as "not yet".
 */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  { timeoutMs = WAIT_MS }: { timeoutMs?: number } = {},
): Promise<Exclude<T, undefined | false>> {
  const deadline = performance.now() + timeoutMs
  let failure: unknown
  for (;;) {
    try {
      const value = await condition()
      if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>
      failure = undefined
    } catch (error) {
      if (error instanceof Hopeless) throw error
      failure = error
    }
    if (performance.now() > deadline) {
      throw new Error(`waited ${timeoutMs / 1000} s for ${what}`, failure === undefined ? {} : { cause: failure })
    }
    await sleep(POLL_MS)
  }
}

/** Thrown by a condition of {@link until} that can no longer come true: ends the wait at once. */
export class Hopeless extends Error {
  override readonly name = 'Hopeless'
}
