import { createBell, pause } from './bell.ts'

export interface GlanceDependencies {
  /**
   * Looks for what is awaited; what it throws is told to `failed`, and it is called again.
   *
   * @param isTold whether it is because something is awaited that was not before
   */
  glance(isTold: boolean, signal: AbortSignal): Promise<void>
  /** The longest time to the next glance, in milliseconds; `undefined` if nothing is awaited. */
  patience(): number | undefined
  failed(error: unknown): void
}

export interface GlanceOptions {
  /** Milliseconds between being told and the glance. */
  readonly gather?: number
}

/** Looks for a few things between the looks at everything. */
export interface Glances {
  /** Glances soon. */
  soon(): void
  /** Stops it; resolves when it has. */
  close(): Promise<void>
}

/** As an observer's after an event, in milliseconds. Of a few things a glance takes a millisecond. */
const GATHER = 25
/**
 * When many things are awaited, and more and more: how many times as long as the glance before took it takes to gather for the
 * next one, and the longest that it does, in milliseconds.
 */
const GATHER_FACTOR = 10
const GATHER_MOST = 400
/** How long it rests when nothing is awaited, in milliseconds: until it is told, which is what ends the rest. */
const REST = 3_600_000

export function createGlances(
  { glance, patience, failed }: GlanceDependencies,
  { gather = GATHER }: GlanceOptions = {},
): Glances {
  const bell = createBell()
  const closing = new AbortController()
  const { signal } = closing

  async function run(): Promise<void> {
    let took = 0
    while (!signal.aborted) {
      try {
        const gathering = Math.min(Math.max(gather, took * GATHER_FACTOR), GATHER_MOST)
        const isTold = await bell.wait(patience() ?? REST, signal)
        if (isTold) await pause(gathering, signal)
        // What is told from here on may come too late for this glance.
        bell.clear()
        const begun = performance.now()
        if (!signal.aborted) await glance(isTold, signal)
        took = performance.now() - begun
      } catch (error) {
        if (!signal.aborted) failed(error)
      }
    }
  }

  const running = run()
  return {
    soon: () => bell.ring(),
    async close() {
      closing.abort(new Error('glancing was ended'))
      await running
    },
  }
}
