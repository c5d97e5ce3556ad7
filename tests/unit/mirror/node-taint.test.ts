import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { removeTaintWhenReady } from '../../../lib/mirror/node-taint.ts'
import { Readiness } from '../../../lib/observe/readiness.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor } from '../../fixtures/wait.ts'

const TAINT = { key: 'swarmirror/not-ready', effect: 'NoSchedule' }
const OTHER = { key: 'gpu', value: 'a', effect: 'NoExecute', timeAdded: '2026-01-01T00:00:00Z' }

interface Asked {
  readonly method: string | undefined
  readonly authorization: string | undefined
  readonly body: string
}

/** A double of the API server with one node; `answer` may refuse a request with a status. */
async function withApi(
  taints: readonly object[] | undefined,
  use: (api: {
    readonly options: { api: string; tokenFile: string; pause: number }
    readonly asked: readonly Asked[]
    refuse: (asked: Asked) => number | undefined
  }) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (dir) => {
    const tokenFile = join(dir, 'token')
    await writeFile(tokenFile, 'a-token\n')
    const asked: Asked[] = []
    const server = createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk)
      const { method, url, headers } = request
      const one = { method, authorization: headers.authorization, body: Buffer.concat(chunks).toString() }
      asked.push(one)
      const status = url === '/api/v1/nodes/node-1' ? (api.refuse(one) ?? 200) : 404
      response.writeHead(status)
      response.end(JSON.stringify({ metadata: { name: 'node-1', resourceVersion: '7' }, spec: { taints } }))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const api = {
      options: { api: url, tokenFile, pause: 5 },
      asked,
      refuse: (_: Asked): number | undefined => undefined,
    }
    try {
      await use(api)
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
}

const OF = { node: 'node-1', key: TAINT.key }

test('removeTaintWhenReady waits until the mirror is ready, and leaves the other taints as they are', async () => {
  await withApi([OTHER, TAINT], async ({ options, asked }) => {
    const readiness = new Readiness()
    const wait = readiness.wait('not yet')
    const { log, lines } = createLogRecorder()
    const untainting = removeTaintWhenReady(OF, { readiness, log }, options)
    assert.equal(asked.length, 0)
    wait.over()
    await waitFor('the taint to be off', () => lines.some(({ event }) => event === 'taint removed from the node'))
    assert.deepEqual(
      asked.map(({ method, authorization }) => [method, authorization]),
      [
        ['GET', 'Bearer a-token'],
        ['PATCH', 'Bearer a-token'],
      ],
    )
    assert.deepEqual(JSON.parse(asked[1]?.body ?? ''), {
      metadata: { resourceVersion: '7' },
      spec: { taints: [OTHER] },
    })
    wait.for('not any more')
    wait.over()
    await untainting.close()
    assert.equal(asked.length, 2, 'once is enough')
  })
})

test('removeTaintWhenReady changes nothing if the taint is not there', async () => {
  for (const taints of [undefined, [], [OTHER]]) {
    await withApi(taints, async ({ options, asked }) => {
      const untainting = removeTaintWhenReady(OF, { readiness: new Readiness(), log: createLogRecorder().log }, options)
      await waitFor('the question', () => asked.length === 1)
      await untainting.close()
      assert.deepEqual(
        asked.map(({ method }) => method),
        ['GET'],
      )
    })
  }
})

test('removeTaintWhenReady tries again where it was refused, or where somebody else changed the node', async () => {
  await withApi([TAINT], async (api) => {
    const answers = [403, undefined, 409]
    api.refuse = () => answers.shift()
    const { log, lines } = createLogRecorder()
    const untainting = removeTaintWhenReady(OF, { readiness: new Readiness(), log }, api.options)
    await waitFor('the taint to be off', () => lines.some(({ event }) => event === 'taint removed from the node'))
    await untainting.close()
    assert.deepEqual(
      lines.filter(({ level }) => level === 'warn').map(({ fields }) => /status \d+/.exec(String(fields.error))?.[0]),
      ['status 403', 'status 409'],
    )
  })
})

test('removeTaintWhenReady ends when it is closed, even if the API server never answers correctly', async () => {
  await withApi([TAINT], async (api) => {
    api.refuse = () => 500
    const { log, lines } = createLogRecorder()
    const untainting = removeTaintWhenReady(OF, { readiness: new Readiness(), log }, { ...api.options, pause: 60_000 })
    await waitFor('the first failure', () => lines.some(({ level }) => level === 'warn'))
    await untainting.close()
    assert.equal(api.asked.length, 1)
  })
})
