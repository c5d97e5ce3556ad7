import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { listen } from '../../../lib/platform/listen.ts'
import { exchange, RawClient, requestText } from '../../fixtures/http.ts'
import { commandOf } from '../../fixtures/process.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

function startFlooded() {
  const [program, ...args] = commandOf(new URL('../../fixtures/flooded-child.ts', import.meta.url))
  const command = ['-c', 'ulimit -n 150; exec "$0" "$@"', program, ...args]
  return spawn('sh', command, { stdio: ['pipe', 'pipe', 'inherit'] })
}

test('listen answers again after there was no descriptor for a connection', async () => {
  const child = startFlooded()
  let waiting: RawClient | undefined
  try {
    const [port] = (await within('its port', once(child.stdout, 'data'))).map(Number)
    assert.ok(port !== undefined && port > 0)
    const tell = async (command: string) => {
      child.stdin.write(command)
      await within(command, once(child.stdout, 'data'))
    }
    await tell('take')
    waiting = await RawClient.connect(port)
    // An answer to this shows that it has had a turn to accept that connection.
    await tell('take')
    await tell('free')
    const hello = async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(1_000) })
      return await answer.text()
    }
    assert.equal(await waitFor('an answer', () => hello().catch(() => undefined)), 'hello')
  } finally {
    waiting?.close()
    child.kill('SIGKILL')
  }
})

test('listen answers after, and during, more connections than there are file descriptors', async () => {
  const child = startFlooded()
  const clients: RawClient[] = []
  try {
    const [port] = (await within('its port', once(child.stdout, 'data'))).map(Number)
    assert.ok(port !== undefined && port > 0)
    const hello = async () => String((await exchange(port, requestText('GET', '/'))).body)
    assert.equal(await hello(), 'hello')
    for (let flood = 0; flood < 10; flood++) {
      clients.push(...(await Promise.all(Array.from({ length: 40 }, () => RawClient.connect(port)))))
      assert.equal(await hello(), 'hello')
    }
    for (const client of clients) client.close()
    assert.equal(await hello(), 'hello')
  } finally {
    for (const client of clients) client.close()
    child.kill('SIGKILL')
  }
})

test('listen ends surplus idle connections, even if many come at once', async () => {
  const answer = () => new Response('hello', { headers: { 'content-length': '5' } })
  const onError = (error: unknown) => assert.fail(String(error))
  const listener = await listen(answer, { host: '127.0.0.1', port: 0, maxConnections: 5, onError })
  const clients: RawClient[] = []
  try {
    for (let burst = 0; burst < 3; burst++) {
      clients.push(...(await Promise.all(Array.from({ length: 40 }, () => RawClient.connect(listener.port)))))
    }
    const open = () => clients.filter(({ ending }) => ending === 'open')
    await waitFor('the limit', () => open().length === 5)
    assert.equal(String((await exchange(listener.port, requestText('GET', '/'))).body), 'hello')
    await waitFor('the limit again', () => open().length === 4)
  } finally {
    for (const client of clients) client.close()
    await within('the end of the listener', listener.close(AbortSignal.abort()))
  }
})
