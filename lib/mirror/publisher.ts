import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import type { Policy } from '../oci/policy.ts'
import type { ContentStore } from '../store/store.ts'
import type { Router } from '../swarm/router.ts'

/** Keeps announced what the store holds, from its first word on. */
export function publish(store: ContentStore, router: Router, policy: Policy, log: Logger) {
  const held = new Set<Key>()
  const stop = new AbortController()
  let problem: string | undefined = 'the store has not told yet what it holds'
  const follow = async () => {
    for await (const { added, removed } of store.watch(stop.signal)) {
      // A tag's key holds a slash, a digest's does not (see oci/key.ts).
      const announced = policy.resolvesTags ? added : added.filter((key) => !key.includes('/'))
      for (const key of removed) held.delete(key)
      for (const key of announced) held.add(key)
      router.withdraw(removed)
      router.advertise(announced)
      log.info('content held', { keys: held.size, added: added.length, removed: removed.length })
      problem = undefined
    }
  }
  const done = follow().catch((error) => {
    problem = 'what the store holds is no longer followed'
    log.error(problem, { error })
  })
  return {
    held: held as ReadonlySet<Key>,
    /** Why the swarm may not be told what is held, in words. */
    get problem() {
      return problem
    },
    async close() {
      stop.abort()
      await done
    },
  }
}

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
