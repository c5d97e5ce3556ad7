import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import * as v from 'valibot'
import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import { bounded } from '../platform/abort.ts'
import type { Settings } from '../settings/settings.ts'

/** Kubernetes' API as a pod reaches it, and the file with the pod's token, which Kubernetes renews. */
export const IN_CLUSTER = {
  api: 'https://kubernetes.default.svc',
  tokenFile: '/var/run/secrets/kubernetes.io/serviceaccount/token',
}
/** Milliseconds for a request, and before another try: on a new node the cluster's network may not be up yet. */
const REQUEST_TIMEOUT = 5_000
const PAUSE = 5_000

const NODE = v.object({
  metadata: v.object({ resourceVersion: v.string() }),
  spec: v.object({ taints: v.optional(v.array(v.looseObject({ key: v.string() })), []) }),
})

/**
 * Removes the taints with a key, whatever their values and effects, from this node once, as soon as the mirror is ready, and
 * tries until they are gone. It never adds them again.
 */
export function removeTaintWhenReady(
  { node, key }: NonNullable<Settings['untaint']>,
  { readiness, log }: { readonly readiness: Readiness; readonly log: Logger },
  { api, tokenFile, pause = PAUSE }: typeof IN_CLUSTER & { readonly pause?: number } = IN_CLUSTER,
) {
  const closing = new AbortController()

  async function ask(method: 'GET' | 'PATCH', body?: object): Promise<unknown> {
    const headers = {
      Authorization: `Bearer ${(await readFile(tokenFile, 'utf8')).trim()}`,
      'Content-Type': 'application/merge-patch+json',
    }
    return await bounded(REQUEST_TIMEOUT, closing.signal, async (signal) => {
      const request = { method, headers, signal, ...(body && { body: JSON.stringify(body) }) }
      const answer = await fetch(`${api}/api/v1/nodes/${encodeURIComponent(node)}`, request)
      const text = await answer.text()
      if (!answer.ok) throw new Error(`${method} of node ${node}: status ${answer.status}: ${text.slice(0, 500)}`)
      return JSON.parse(text)
    })
  }

  async function remove(): Promise<void> {
    await readiness.reached(closing.signal)
    for (;;) {
      try {
        const { metadata, spec } = v.parse(NODE, await ask('GET'))
        const taints = spec.taints.filter((taint) => taint.key !== key)
        if (taints.length === spec.taints.length) return
        // With the version, so that a taint that somebody else adds meanwhile is not lost.
        const { resourceVersion } = metadata
        await ask('PATCH', { metadata: { resourceVersion }, spec: { taints } })
        return log.info('taint removed from the node', { node, taint: key })
      } catch (error) {
        closing.signal.throwIfAborted()
        log.warn('the taint of the node could not be removed yet', { node, taint: key, error })
      }
      await delay(pause, undefined, { signal: closing.signal })
    }
  }

  // It rejects only when it is closed.
  const removing = remove().catch(() => undefined)
  return {
    async close(): Promise<void> {
      closing.abort(new Error('the mirror is stopping'))
      await removing
    },
  }
}
