import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import type { Key } from '../oci/key.ts'
import type { Policy } from '../oci/policy.ts'
import { bounded } from '../platform/abort.ts'
import type { ContentStore } from '../store/store.ts'
import type { Router } from '../swarm/router.ts'

/**
 * Milliseconds for which the first announcement may keep a mirror from being ready. It takes milliseconds per key, and a second
 * if a neighbour has just died. If it takes longer, the swarm does not work well, but the mirror can already get content from
 * others.
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
 * Keeps the content of the store announced.
 *
 * @param announceTimeout milliseconds for which the first announcement may delay readiness
 */
export function publish(
  { store, router, policy, readiness, log }: PublisherDependencies,
  announceTimeout: number = ANNOUNCE_TIMEOUT,
) {
  const held = new Set<Key>()
  const closing = new AbortController()
  const following = readiness.wait('the content of the store is not known yet')
  let first: Promise<void> | undefined

  const fail = (error: unknown) => {
    const reason = 'the store is no longer followed'
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
    const announcing = readiness.wait('the content is not announced to the swarm yet')
    await bounded(announceTimeout, closing.signal, async (signal) => {
      try {
        await router.settled(signal)
      } catch (error) {
        if (!signal.aborted) throw error
        if (!closing.signal.aborted) log.warn('announcing the content takes too long', { ms: announceTimeout })
      }
    })
    announcing.over()
  }
  const done = follow()
    .catch(fail)
    .then(() => first)
  return {
    /** The keys that this node offers to others. */
    held: held as ReadonlySet<Key>,
    /** Stops following the store; its content stays announced. */
    async close(): Promise<void> {
      closing.abort()
      await done
    },
  }
}

/** Withdraws everything from the swarm, as far as it gets before the signal aborts. */
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
