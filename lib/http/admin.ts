import { Hono } from 'hono'
import type { Metrics } from '../observe/metrics.ts'

/** Whether the node does its work, and if not, why not, in words. */
export type Readiness = { readonly ready: true } | { readonly ready: false; readonly reasons: readonly string[] }

export interface AdminDoorDependencies {
  readonly readiness: () => Readiness
  readonly metrics: Metrics
  /** Answers all other paths; without it there is nothing else. */
  readonly page?: Pick<Hono, 'fetch'> | undefined
}

/**
 * The door for probes, Prometheus and people: `/livez` answers as long as the process does, `/readyz` when it does its
 * work, `/metrics` with what it has done. None of these tells the name of an image; the page does, and has rules of its own
 * for who is answered.
 */
export function createAdminDoor({ readiness, metrics, page }: AdminDoorDependencies): Hono {
  const app = new Hono()
  app.get('/livez', (c) => c.text('alive\n'))
  app.get('/readyz', (c) => {
    const state = readiness()
    return state.ready ? c.text('ready\n') : c.text(`not ready: ${state.reasons.join('; ')}\n`, 503)
  })
  app.get('/metrics', async (c) => {
    const { contentType, body } = await metrics.render()
    return c.body(body, 200, { 'Content-Type': contentType })
  })
  if (page !== undefined) app.all('*', (c) => page.fetch(c.req.raw))
  return app
}
