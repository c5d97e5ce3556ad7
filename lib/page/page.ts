import { Hono } from 'hono'
import type { Logger } from '../observe/log.ts'
import { DOCUMENT, ICON } from './document.ts'
import { refusalOf } from './guard.ts'
import { clientScript } from './script.ts'
import type { Status } from './status.ts'
import { STYLE } from './style.ts'
import type { Tracer, TraceStep } from './trace.ts'

export interface PageDependencies {
  readonly status: (signal: AbortSignal) => Promise<Status>
  readonly trace: Tracer
  readonly log: Logger
}

export interface PageOptions {
  /** Milliseconds for which one look at the status serves everybody. */
  readonly statusAge?: number
}

export interface Page {
  readonly app: Hono
  /** Ends a trace that runs. */
  close(): void
}

/** Longest request for a trace in bytes: a reference has at most 253 + 255 + 128 characters and a digest. */
const MAX_REQUEST = 2_048
/** However many pages are open, they cost as much as two questions a second. */
const STATUS_AGE = 500

/**
 * What everything that the page consists of is sent with. Nothing inline and nothing from elsewhere runs or is shown, no
 * markup is made from text (Trusted Types), nobody frames it, and nothing is kept.
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

/** The page for people: what the mirror is doing, and a trace of an image. One trace runs at a time. */
export function createPage(
  { status, trace, log }: PageDependencies,
  { statusAge = STATUS_AGE }: PageOptions = {},
): Page {
  const app = new Hono()
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
    const refusal = refusalOf(c.req.raw)
    if (refusal !== undefined) return c.text(`refused: ${refusal}\n`, 403, HEADERS)
    return await next()
  })
  const asset = (path: string, type: string, text: string) =>
    app.get(path, (c) => c.body(text, 200, { ...HEADERS, 'Content-Type': type }))
  asset('/', 'text/html; charset=utf-8', DOCUMENT)
  asset('/page.css', 'text/css; charset=utf-8', STYLE)
  asset('/page.js', 'text/javascript; charset=utf-8', clientScript())
  asset('/icon.svg', 'image/svg+xml', ICON)
  app.get('/api/status', async (c) =>
    c.body(await statusBody(), 200, { ...HEADERS, 'Content-Type': 'application/json' }),
  )
  app.post('/api/trace', async (c) => {
    // A form of another site cannot send this type without being asked first, which is never allowed.
    if (c.req.header('content-type') !== 'application/json') return c.text('send JSON\n', 415, HEADERS)
    if (Number(c.req.header('content-length') ?? Number.NaN) <= MAX_REQUEST === false)
      return c.text(`send at most ${MAX_REQUEST} bytes, and say how many\n`, 413, HEADERS)
    const reference = referenceOf(await c.req.text())
    if (reference === undefined) return c.text('send {"reference": "..."}\n', 400, HEADERS)
    if (tracing) return c.text('another trace is running: one at a time\n', 429, HEADERS)
    tracing = true
    const done = () => {
      tracing = false
    }
    const body = linesOf(
      (emit, signal) => trace(reference, emit, AbortSignal.any([signal, closing.signal])).finally(done),
      (error) => log.error('trace failed', { error }),
    )
    return c.body(body, 200, { ...HEADERS, 'Content-Type': 'application/x-ndjson' })
  })
  app.onError((error, c) => {
    log.error('page failed', { path: c.req.path, error })
    return c.text('internal error; the log of this mirror has the cause\n', 500, HEADERS)
  })
  return { app, close: () => closing.abort() }
}

function referenceOf(text: string): string | undefined {
  try {
    const { reference } = JSON.parse(text) as { readonly reference?: unknown }
    return typeof reference === 'string' ? reference : undefined
  } catch {
    return undefined
  }
}

/** One line of JSON for each step, as it comes. A trace makes a few dozen of them, so nobody has to wait for the reader. */
function linesOf(
  run: (emit: (step: TraceStep) => void, signal: AbortSignal) => Promise<void>,
  failed: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const left = new AbortController()
  const encoder = new TextEncoder()
  return new ReadableStream<Uint8Array>({
    async start(controller) {
      const emit = (step: TraceStep) => {
        if (!left.signal.aborted) controller.enqueue(encoder.encode(`${JSON.stringify(step)}\n`))
      }
      const over = run(emit, left.signal).catch((error) => {
        failed(error)
        emit({ step: 'end', ms: 0, problem: 'internal error; the log of this mirror has the cause' })
      })
      void over.then(() => {
        if (!left.signal.aborted) controller.close()
      })
    },
    cancel() {
      left.abort()
    },
  })
}
