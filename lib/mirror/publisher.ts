import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import type { Key } from '../oci/key.ts'
import type { Policy } from '../oci/policy.ts'
import { bounded } from '../platform/abort.ts'
import type { ContentStore } from '../store/store.ts'
import type { Router } from '../swarm/router.ts'

/**
 * How long the first announcement may keep a mirror from being ready, in milliseconds. It takes milliseconds a key, and a
 * second if a neighbour has just died. A node that needs longer has a swarm that does not work well; but it can get from
 * others what it is asked for, so it is of use.
 */
const ANNOUNCE_TIMEOUT = 10_000

export interface PublisherDependencies {
  readonly store: ContentStore
  readonly router: Router
  readonly policy: Policy
  readonly readiness: Readiness
  readonly log: Logger
}

/**
 * Keeps announced what the store holds.
 *
 * @param announceTimeout milliseconds that the swarm may take to be told what is held at first
 */
export function publish(
  { store, router, policy, readiness, log }: PublisherDependencies,
  announceTimeout: number = ANNOUNCE_TIMEOUT,
) {
  const held = new Set<Key>()
  const closing = new AbortController()
  const following = readiness.wait('the store has not told yet what it holds')
  let first: Promise<void> | undefined

  const fail = (error: unknown) => {
    const reason = 'what the store holds is no longer followed'
    following.for(reason)
    log.error(reason, { error })
  }
  const follow = async () => {
    for await (const { added, removed } of store.watch(closing.signal)) {
      // A tag's key holds a slash, a digest's does not (see oci/key.ts).
      const announced = policy.resolvesTags ? added : added.filter((key) => !key.includes('/'))
      for (const key of removed) held.delete(key)
      for (const key of announced) held.add(key)
      router.withdraw(removed)
      router.advertise(announced)
      log.info('content held', { keys: held.size, added: added.length, removed: removed.length })
      first ??= announceFirst().catch(fail)
      following.over()
    }
  }
  const announceFirst = async () => {
    const announcing = readiness.wait('what is held is not announced yet')
    await bounded(announceTimeout, closing.signal, async (signal) => {
      try {
        await router.settled(signal)
      } catch (error) {
        if (!signal.aborted) throw error
        if (!closing.signal.aborted) log.warn('announcing what is held takes too long', { ms: announceTimeout })
      }
    })
    announcing.over()
  }
  const done = follow()
    .catch(fail)
    .then(() => first)
  return {
    /** What this node offers to others. */
    held: held as ReadonlySet<Key>,
    /** Stops following the store; what is announced stays so. */
    async close(): Promise<void> {
      closing.abort()
      await done
    },
  }
}

/** Takes everything back from the swarm, as far as that goes before the signal aborts. */
export async function withdrawAll(
  router: Router,
  held: ReadonlySet<Key>,
  signal: AbortSignal,
  log: Logger,
): Promise<void> {
  router.withdraw(held)
  try {
    await router.settled(signal)
  } catch (error) {
    log.warn('not everything was withdrawn from the swarm; the rest expires there', { error })
  }
}
