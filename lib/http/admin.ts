import { Hono } from 'hono'

/** Whether the node does its work, and if not, why not, in words. */
export type Readiness = { readonly ready: true } | { readonly ready: false; readonly reasons: readonly string[] }

/** The door for probes and people: `/livez` answers as long as the process does, `/readyz` when it does its work. */
export function createAdminDoor({ readiness }: { readonly readiness: () => Readiness }): Hono {
  const app = new Hono()
  app.get('/livez', (c) => c.text('alive\n'))
  app.get('/readyz', (c) => {
    const state = readiness()
    return state.ready ? c.text('ready\n') : c.text(`not ready: ${state.reasons.join('; ')}\n`, 503)
  })
  return app
}
