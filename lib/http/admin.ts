import { Hono } from 'hono'
import type { Metrics } from '../observe/metrics.ts'
import type { Readiness } from '../observe/readiness.ts'

export interface AdminDoorDependencies {
  readonly readiness: Pick<Readiness, 'reasons' | 'notes'>
  readonly metrics: Metrics
  /** Answers all other paths; if missing, they are a 404. */
  readonly page?: Pick<Hono, 'fetch'> | undefined
}

/**
 * The door for probes, Prometheus and people: `/livez` says that the process is alive, `/readyz` whether the mirror works, and
 * `/metrics` what it has done. None of these tells the name of an image. The page does, so it has its own rules for who may see
 * it.
 */
export function createAdminDoor({ readiness, metrics, page }: AdminDoorDependencies): Hono {
  const app = new Hono()
  app.get('/livez', (c) => c.text('alive\n'))
  app.get('/readyz', (c) => {
    const { reasons, notes } = readiness
    if (reasons.length > 0) return c.text(`not ready: ${[...reasons, ...notes].join('; ')}\n`, 503)
    return c.text(notes.length > 0 ? `ready, but: ${notes.join('; ')}\n` : 'ready\n')
  })
  app.get('/metrics', (c) => {
    const { contentType, body } = metrics.render()
    return c.body(body, 200, { 'Content-Type': contentType })
  })
  if (page !== undefined) app.all('*', (c) => page.fetch(c.req.raw))
  return app
}
