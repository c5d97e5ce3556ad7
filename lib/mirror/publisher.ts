import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import type { Policy } from '../oci/policy.ts'
import type { ContentStore } from '../store/store.ts'
import type { Router } from '../swarm/router.ts'

export interface PublisherOptions {
  /** Milliseconds that the swarm may take to be told what is held at first, before that is not waited for any more. */
  readonly announceTimeout?: number
}

/**
 * Announcing takes milliseconds a key, and a second if a neighbour has just died. A node that waits for longer has a swarm
 * that does not work well; but what it can get from others, it gets, so it is of use.
 */
const ANNOUNCE_TIMEOUT = 10_000

/** Keeps announced what the store holds, from its first word on. */
export function publish(
  store: ContentStore,
  router: Router,
  policy: Policy,
  log: Logger,
  { announceTimeout = ANNOUNCE_TIMEOUT }: PublisherOptions = {},
) {
  const held = new Set<Key>()
  const stop = new AbortController()
  /** Why what is held may not be known. */
  let following: string | undefined = 'the store has not told yet what it holds'
  /** Why what is known may not be announced. */
  let announcing: string | undefined
  let first: Promise<void> | undefined

  const fail = (error: unknown) => {
    following = 'what the store holds is no longer followed'
    log.error(following, { error })
  }
  const follow = async () => {
    for await (const { added, removed } of store.watch(stop.signal)) {
      // A tag's key holds a slash, a digest's does not (see oci/key.ts).
      const announced = policy.resolvesTags ? added : added.filter((key) => !key.includes('/'))
      for (const key of removed) held.delete(key)
      for (const key of announced) held.add(key)
      router.withdraw(removed)
      router.advertise(announced)
      log.info('content held', { keys: held.size, added: added.length, removed: removed.length })
      following = undefined
      first ??= announceFirst().catch(fail)
    }
  }
  const announceFirst = async () => {
    announcing = 'what is held is not announced yet'
    const over = new AbortController()
    const abort = () => over.abort()
    const timer = setTimeout(abort, announceTimeout)
    stop.signal.addEventListener('abort', abort, { once: true })
    try {
      await router.settled(over.signal)
    } catch (error) {
      if (!over.signal.aborted) throw error
      if (!stop.signal.aborted) log.warn('what is held is not announced in time', { ms: announceTimeout })
    } finally {
      clearTimeout(timer)
      stop.signal.removeEventListener('abort', abort)
    }
    announcing = undefined
  }
  const done = follow()
    .catch(fail)
    .then(() => first)
  return {
    held: held as ReadonlySet<Key>,
    /** Why others may not find here what is held, in words. */
    get problem() {
      return following ?? announcing
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
