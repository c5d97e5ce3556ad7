import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { PeerClient } from '../../../lib/peers/client.ts'
import { createTlsIdentity } from '../../../lib/peers/tls.ts'
import { listen } from '../../../lib/platform/listen.ts'
import type { Listener, NewcomerBounds } from '../../../lib/platform/listener.ts'
import { SWARM_KEY } from '../../fixtures/credentials.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const LONG = 60_000
const identity = createTlsIdentity([SWARM_KEY])

interface Scene {
  /** Opens silent connections. */
  open(count: number, from?: string): void
  /** How many of them are still open. */
  standing(): number
  ask(client: PeerClient): Promise<string>
}

/** Runs `use` with a door that trusts clients that ask for `/trusted`. */
async function withDoor(
  tls: typeof identity | undefined,
  newcomers: NewcomerBounds,
  use: (scene: Scene, client: PeerClient) => Promise<void>,
): Promise<void> {
  const listener: Listener = await listen(
    ({ url }, admission) => {
      if (url.endsWith('/trusted')) admission.trust()
      return new Response('hello', { headers: { 'content-length': '5' } })
    },
    { host: '127.0.0.1', port: 0, tls, newcomers, onError: (error) => assert.fail(String(error)) },
  )
  const sockets = new Set<Socket>()
  const client = new PeerClient({ tls, headTimeout: 5_000 })
  const ask = async (client: PeerClient) => {
    const peer = { host: '127.0.0.1', port: listener.port }
    const { body } = await client.call(peer, { method: 'GET', path: '/trusted', headers: {} }, never)
    const text = Buffer.from((await body.next()) ?? []).toString()
    assert.equal(await body.next(), undefined)
    return text
  }
  const open = (count: number, localAddress = '127.0.0.1') => {
    for (let index = 0; index < count; index++) {
      const socket = connect({ host: '127.0.0.1', port: listener.port, localAddress })
      sockets.add(socket)
      socket.on('error', () => sockets.delete(socket))
      socket.on('close', () => sockets.delete(socket))
      socket.resume()
    }
  }
  try {
    await use({ open, standing: () => sockets.size, ask }, client)
  } finally {
    client.close()
    for (const socket of sockets) socket.destroy()
    await within('the end of the listener', listener.close(AbortSignal.abort()))
  }
}

for (const [what, tls] of [
  ['plain', undefined],
  ['TLS', identity],
] as const) {
  test(`listen (${what}) bounds silent connections, of one address and in all, and answers meanwhile`, () =>
    withDoor(tls, { most: 20, mostPerAddress: 8, time: LONG }, async ({ open, standing, ask }, client) => {
      open(40, '127.0.0.2')
      await waitFor('the bound of one address', () => standing() === 8)
      for (let host = 3; host < 10; host++) open(8, `127.0.0.${host}`)
      await waitFor('the bound of all', () => standing() === 20)
      assert.equal(await ask(client), 'hello')
    }))

  test(`listen (${what}) ends connections that show nothing in time, and keeps the one that did`, () =>
    withDoor(tls, { most: 100, mostPerAddress: 100, time: 300 }, async ({ open, standing, ask }, client) => {
      assert.equal(await ask(client), 'hello')
      open(10)
      await waitFor('their end', () => standing() === 0)
      // On Deno we keep no idle connections under TLS.
      assert.equal(await ask(client), 'hello')
    }))
}
