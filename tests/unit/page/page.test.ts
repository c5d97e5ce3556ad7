/** The page over HTTP: who gets an answer, which one, and how much it may cost. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { silentLogger } from '../../../lib/observe/log.ts'
import { clientScript } from '../../../lib/page/assets.ts'
import { createPage } from '../../../lib/page/page.ts'
import type { TraceStep } from '../../../lib/page/trace.ts'
import { STATUS, withServedPage } from '../../fixtures/page.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const JSON_TYPE = { 'content-type': 'application/json' }

function ask(path: string, init: RequestInit & { readonly headers?: Record<string, string> } = {}) {
  const page = createPage({
    status: async () => STATUS,
    trace: async (_, emit) => emit({ step: 'end', ms: 1 }),
    log: silentLogger,
  })
  const headers = { host: '127.0.0.1:5002', ...init.headers }
  return page.app.request(`http://127.0.0.1:5002${path}`, { ...init, headers })
}

/** A request with its length, as `fetch` sends it. */
function asking(reference: string, headers: Record<string, string> = {}) {
  const body = JSON.stringify({ reference })
  return { method: 'POST', body, headers: { ...JSON_TYPE, 'content-length': String(body.length), ...headers } }
}

test('page: all its files have a policy that lets nothing else run, and are not cached', async () => {
  for (const [path, type] of [
    ['/', 'text/html; charset=utf-8'],
    ['/page.css', 'text/css; charset=utf-8'],
    ['/page.js', 'text/javascript; charset=utf-8'],
    ['/icon.svg', 'image/svg+xml'],
    ['/api/status', 'application/json'],
  ] as const) {
    const answer = await ask(path)
    assert.equal(answer.status, 200, path)
    assert.equal(answer.headers.get('content-type'), type)
    const policy = answer.headers.get('content-security-policy') ?? ''
    assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/)
    assert.ok(policy.includes("frame-ancestors 'none'") && !policy.includes('unsafe'))
    assert.equal(answer.headers.get('x-content-type-options'), 'nosniff')
    assert.equal(answer.headers.get('cache-control'), 'no-store')
    assert.equal(answer.headers.get('access-control-allow-origin'), null)
  }
  assert.equal((await ask('/other')).status, 404)
})

test('page: its document has no inline script or style', async () => {
  const text = await (await ask('/')).text()
  assert.doesNotMatch(text, /<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)|https?:/)
})

test('page: its script is a self-contained program', () => {
  const script = clientScript()
  // The script parses as a module, without imports, types or duplicate names.
  assert.equal(typeof new Function(`'use strict'; { ${script} }`), 'function')
  assert.doesNotMatch(script, /\bimport\b|\brequire\b|innerHTML|insertAdjacentHTML|document\.write/)
})

test('page: all that its sources define is in its script, which takes what they export', () => {
  const client = new URL('../../../lib/page/client/', import.meta.url)
  const files = readdirSync(client)
  assert.ok(files.length >= 5)
  for (const file of files) {
    const kept = readFileSync(new URL(file, client), 'utf8').match(/^(?:async )?(?:function|const|let|class) \w+/gm)
    assert.equal(kept, null, `${file} keeps to itself: ${kept}`)
  }
})

test('page: only an IP address or localhost is answered as its host, so that no foreign name can stand for it', async () => {
  for (const host of ['127.0.0.1:5002', '127.0.0.1', 'localhost:8080', 'localhost', '[::1]:5002', '10.0.0.1:5002']) {
    assert.equal((await ask('/api/status', { headers: { host } })).status, 200, host)
  }
  for (const host of [
    'evil.example',
    'evil.example:5002',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '[::1].evil',
    '[evil]',
    'x:y',
  ]) {
    for (const path of ['/', '/page.js', '/api/status']) {
      const answer = await ask(path, { headers: { host } })
      assert.equal(answer.status, 403, `${host} ${path}`)
      assert.doesNotMatch(await answer.text(), /nginx/)
    }
    assert.equal((await ask('/api/trace', asking('a', { host }))).status, 403)
  }
})

test('page: other sites get nothing', async () => {
  assert.equal((await ask('/', { headers: { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' } })).status, 200)
  // Links to the page from other sites work, because those sites cannot read the page.
  assert.equal(
    (await ask('/', { headers: { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' } })).status,
    200,
  )
  for (const headers of [
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
    { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' },
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { origin: 'http://127.0.0.1:5003' },
  ]) {
    assert.equal((await ask('/api/status', { headers })).status, 403, JSON.stringify(headers))
    assert.equal((await ask('/api/trace', asking('a', headers))).status, 403, JSON.stringify(headers))
  }
  const own = { 'sec-fetch-site': 'same-origin', origin: 'http://127.0.0.1:5002' }
  assert.equal((await ask('/api/trace', asking('a', own))).status, 200)
})

test('page: a trace takes one reference in JSON', async () => {
  const status = async (init: Parameters<typeof ask>[1]) => (await ask('/api/trace', init)).status
  assert.equal(await status(asking('a', { 'content-type': 'text/plain' })), 415)
  assert.equal(await status(asking('a', { 'content-type': 'application/x-www-form-urlencoded' })), 415)
  for (const body of ['', '{', '[]', '{"reference":1}', 'null']) {
    assert.equal(await status({ method: 'POST', body, headers: JSON_TYPE }), 400, body)
  }
  assert.equal(await status({ method: 'GET' }), 404)
})

test('page: one trace runs at a time, and the next one after it', async () => {
  const going = Promise.withResolvers<void>()
  let started = 0
  await withServedPage(
    async ({ url }) => {
      const post = () => fetch(`${url}api/trace`, { method: 'POST', body: '{"reference":"a"}', headers: JSON_TYPE })
      const first = await post()
      await waitFor('it runs', () => started === 1)
      const second = await post()
      assert.equal(second.status, 429)
      assert.match(await second.text(), /one at a time/)
      going.resolve()
      assert.match(await first.text(), /\{"step":"end","ms":1\}\n$/)
      assert.match(await (await post()).text(), /"end"/)
      assert.equal(started, 2)
    },
    async (_, emit) => {
      started++
      // The head of an answer is sent together with its first byte.
      emit({ step: 'name', name: 'a', lookupTimeout: 1 })
      await going.promise
      emit({ step: 'end', ms: 1 })
    },
  )
})

test('page: a trace gives its steps as they come, ends with its reader, and frees its place', async () => {
  let ended = 0
  const run = async (_: string, emit: (step: TraceStep) => void, signal: AbortSignal) => {
    emit({ step: 'name', name: 'a', lookupTimeout: 1 })
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    ended++
  }
  await withServedPage(async ({ url }) => {
    for (const times of [1, 2]) {
      const leave = new AbortController()
      const init = { method: 'POST', body: '{"reference":"a"}', headers: JSON_TYPE, signal: leave.signal }
      const answer = await fetch(`${url}api/trace`, init)
      const reader = answer.body?.getReader()
      const { value } = (await within('the first step', reader?.read() ?? Promise.reject())) ?? {}
      assert.match(new TextDecoder().decode(value), /^\{"step":"name"/)
      leave.abort()
      await waitFor('the trace has ended', () => ended === times)
    }
  }, run)
})

test('page: closing it ends a trace that runs', async () => {
  const page = createPage({
    status: async () => STATUS,
    trace: (_, __, signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    log: silentLogger,
  })
  const { headers, ...init } = asking('a')
  const answer = await page.app.request('http://127.0.0.1/api/trace', {
    ...init,
    headers: { host: '127.0.0.1', ...headers },
  })
  page.close()
  assert.equal(await within('its end', answer.text()), '')
})

test('page: a failed trace or status says so and is logged', async () => {
  const errors: string[] = []
  const page = createPage({
    status: async () => assert.fail('secret'),
    trace: async () => assert.fail('secret'),
    log: { ...silentLogger, error: (event) => errors.push(event) },
  })
  const host = { host: 'localhost' }
  const { headers, ...init } = asking('a')
  const answer = await page.app.request('http://localhost/api/trace', { ...init, headers: { ...host, ...headers } })
  const text = await answer.text()
  assert.match(text, /internal error; the log/)
  const failed = await page.app.request('http://localhost/api/status', { headers: host })
  assert.equal(failed.status, 500)
  assert.doesNotMatch(text + (await failed.text()), /secret/)
  assert.deepEqual(errors, ['trace failed', 'page failed'])
})

test('page: a client that leaves in the middle of its request is no failure of the page', async () => {
  const errors: string[] = []
  const page = createPage({
    status: async () => STATUS,
    trace: () => assert.fail('traced'),
    log: { ...silentLogger, error: (event) => errors.push(event) },
  })
  const { headers } = asking('a')
  const body = new ReadableStream({ pull: (controller) => controller.error(new Error('aborted')) })
  const init = { method: 'POST', headers, body, duplex: 'half' }
  assert.equal((await page.app.request('http://localhost/api/trace', init)).status, 400)
  assert.deepEqual(errors, [])
})

test('page: however many clients ask for the status, it is read at most twice a second', async () => {
  let looks = 0
  const page = createPage(
    {
      status: async () => {
        looks++
        return STATUS
      },
      trace: async () => undefined,
      log: silentLogger,
    },
    60_000,
  )
  const look = () => page.app.request('http://localhost/api/status', { headers: { host: 'localhost' } })
  const answers = await Promise.all(Array.from({ length: 50 }, look))
  assert.equal(looks, 1)
  for (const answer of answers) assert.deepEqual(await answer.json(), JSON.parse(JSON.stringify(STATUS)))
})
