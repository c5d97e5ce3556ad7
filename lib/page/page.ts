import { Hono } from 'hono'
import { stream } from 'hono/streaming'
import * as v from 'valibot'
import { sameSite } from '../http/middleware.ts'
import { boundedLog, type Logger } from '../observe/log.ts'
import { ASSETS } from './assets.ts'
import type { Status } from './status.ts'
import type { Tracer, TraceStep } from './trace.ts'

export interface PageDependencies {
  readonly status: (signal: AbortSignal) => Promise<Status>
  readonly trace: Tracer
  readonly log: Logger
}

const REQUEST = v.pipe(v.string(), v.parseJson(), v.object({ reference: v.string() }))
/** However many pages are open, they cost at most two looks a second. */
const STATUS_AGE = 500

/**
 * The headers of every answer. No inline or foreign code or content is allowed, no text becomes markup (Trusted Types), nobody
 * may frame the page, and nothing is cached.
 */
const HEADERS = {
  'Content-Security-Policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
}

/**
 * The page for people: what the mirror is doing, and a trace of an image. One trace runs at a time.
 *
 * @param statusAge milliseconds for which one look at the status serves all pages
 */
export function createPage({ status, trace, log: unbounded }: PageDependencies, statusAge = STATUS_AGE) {
  const app = new Hono()
  const log = boundedLog(unbounded)
  const closing = new AbortController()
  let tracing = false
  let last: { readonly at: number; readonly body: Promise<string> } | undefined

  const statusBody = () => {
    const now = performance.now()
    if (last === undefined || now - last.at >= statusAge) {
      const body = status(closing.signal).then((value) => JSON.stringify(value))
      last = { at: now, body }
    }
    return last.body
  }

  app.use(async (c, next) => {
    for (const [name, value] of Object.entries(HEADERS)) c.header(name, value)
    await next()
  })
  // The page has no password, so web pages of other sites must not read it through a person's browser.
  app.use(sameSite((c, reason) => c.text(`refused: ${reason}\n`, 403), { allowLinks: true }))
  for (const { path, type, text } of ASSETS) {
    app.get(path, (c) => c.body(text, 200, { 'Content-Type': type }))
  }
  app.get('/api/status', async (c) => c.body(await statusBody(), 200, { 'Content-Type': 'application/json' }))
  app.post('/api/trace', async (c) => {
    // A form of another site cannot send this type: the browser would first ask whether it may, and is refused.
    if (c.req.header('content-type') !== 'application/json') return c.text('send JSON\n', 415)
    // The door reads only a short body. Reading fails only if the client leaves, which is no failure of this node.
    const asked = v.safeParse(REQUEST, await c.req.text().catch(() => ''))
    if (!asked.success) return c.text('send {"reference": "..."}\n', 400)
    if (tracing) return c.text('another trace is running: one at a time\n', 429)
    tracing = true
    c.header('Content-Type', 'application/x-ndjson')
    return stream(c, async (lines) => {
      const left = new AbortController()
      lines.onAbort(() => left.abort())
      // One line of JSON per step, as it comes. There are a few dozen, so a trace need not wait for its reader.
      const emit = (step: TraceStep) => void lines.write(`${JSON.stringify(step)}\n`)
      try {
        await trace(asked.output.reference, emit, AbortSignal.any([left.signal, closing.signal]))
      } catch (error) {
        log.error('trace failed', { error })
        emit({ step: 'end', ms: 0, problem: 'internal error; the log of this mirror has the cause' })
      }
      tracing = false
    })
  })
  app.onError((error, c) => {
    log.error('page failed', { path: c.req.path, error })
    return c.text('internal error; the log of this mirror has the cause\n', 500)
  })
  /** Ends a trace that runs. */
  const close = (): void => closing.abort()
  return { app, close }
}
