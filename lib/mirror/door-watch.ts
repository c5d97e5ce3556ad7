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
export function watchDoors({ doors, joined, isAlone, readiness, log }: DoorWatchDependencies, interval = INTERVAL) {
  const closing = new AbortController()
  const { signal } = closing
  const told = readiness.wait('the bootstrap addresses are not asked yet')
  const watching = watch().catch((error) => {
    if (signal.aborted) return
    told.over()
    log.error('stopped asking bootstrap addresses', { error })
  })

  async function watch(): Promise<void> {
    for (;;) {
      const [asked] = await Promise.all([doors.ask(signal), unlessAborted(joined, signal)])
      const problems = problemsOf(asked)
      told.tell(sayingOf(problems, isAlone()))
      do await delay(interval, undefined, { signal })
      while (problems.isAccepted && !isAlone())
    }
  }

  return {
    async close(): Promise<void> {
      closing.abort(new Error('closed'))
      await watching
    },
  }
}

function sayingOf({ key, transfer, silence, isAccepted }: ReturnType<typeof problemsOf>, isAlone: boolean) {
  const said = (...texts: readonly (string | undefined)[]) => texts.filter((text) => text !== undefined)
  if (isAccepted) return { reasons: [], notes: [] }
  if (!isAlone) return { reasons: [], notes: said(key, transfer) }
  return { reasons: said(key), notes: said(transfer, silence) }
}
