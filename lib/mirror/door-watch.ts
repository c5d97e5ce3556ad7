import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import { unlessAborted } from '../platform/abort.ts'
import { type BootstrapDoors, problemsOf } from './bootstrap-doors.ts'

export interface DoorWatchDependencies {
  readonly doors: Pick<BootstrapDoors, 'ask'>
  /** Resolves when the swarm has been looked for. */
  readonly joined: Promise<void>
  /** Whether this node knows no other member. Whoever it knows has opened its datagrams, and so has its key. */
  readonly isAlone: () => boolean
  readonly readiness: Readiness
  readonly log: Logger
}

/** Milliseconds from one look to the next. */
const INTERVAL = 10_000

/**
 * Says why a node is alone, or gets nothing: its swarm key or its --peer-transfer is not that of others. A wrong key makes it
 * unready while no bootstrap door accepts it and it knows nobody: one neighbour with a wrong key must not make a whole cluster
 * unready. Another --peer-transfer is only told: it changes node by node, and a rollout waits for each to be ready.
 *
 * Once a door has let it in, nothing is asked as long as it knows others.
 */
export class DoorWatch {
  readonly #dependencies: DoorWatchDependencies
  readonly #closing = new AbortController()
  readonly #watching: Promise<void>

  constructor(dependencies: DoorWatchDependencies, interval = INTERVAL) {
    this.#dependencies = dependencies
    const told = dependencies.readiness.wait('the bootstrap addresses are not asked yet')
    this.#watching = this.#watch(told.tell.bind(told), interval).catch((error) => {
      if (this.#closing.signal.aborted) return
      told.over()
      dependencies.log.error('bootstrap addresses are not asked any more', { error })
    })
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('closed'))
    await this.#watching
  }

  async #watch(tell: (said: ReturnType<typeof sayingOf>) => void, interval: number): Promise<void> {
    const { doors, joined, isAlone } = this.#dependencies
    const { signal } = this.#closing
    for (;;) {
      const [asked] = await Promise.all([doors.ask(signal), unlessAborted(joined, signal)])
      const problems = problemsOf(asked)
      tell(sayingOf(problems, isAlone()))
      do await delay(interval, undefined, { signal })
      while (problems.isAccepted && !isAlone())
    }
  }
}

function sayingOf({ key, transfer, silence, isAccepted }: ReturnType<typeof problemsOf>, isAlone: boolean) {
  const said = (...texts: readonly (string | undefined)[]) => texts.filter((text) => text !== undefined)
  if (isAccepted) return { reasons: [], notes: [] }
  if (!isAlone) return { reasons: [], notes: said(key, transfer) }
  return { reasons: said(key), notes: said(transfer, silence) }
}
