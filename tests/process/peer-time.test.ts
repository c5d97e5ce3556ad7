import assert from 'node:assert/strict'
import { test } from 'node:test'
import { timeOf } from '../../lib/mirror/peer-time.ts'
import { PeerClient } from '../../lib/peers/client.ts'
import { createTlsIdentity } from '../../lib/peers/tls.ts'
import { portOf, withMirrors } from '../fixtures/mirrors.ts'

const never = new AbortController().signal
const KEY = 'ab'.repeat(32)

for (const transfer of ['plain', 'tls'] as const) {
  test(`timeOf tells the time of a peer whose door speaks ${transfer}`, () =>
    withMirrors(async ({ start }) => {
      const mirror = await start(undefined, { 'peer-transfer': transfer, 'swarm-key': KEY })
      const tls = transfer === 'tls' ? createTlsIdentity([Buffer.from(KEY, 'hex')]) : undefined
      const client = new PeerClient({ tls })
      try {
        const before = Date.now()
        const time = await timeOf(client, { host: '127.0.0.1', port: portOf(mirror.peer) }, never)
        assert.ok(time !== undefined, 'the peer did not tell its time')
        // The header has whole seconds.
        assert.ok(time > before - 1_000 && time <= Date.now(), `${time} between ${before} and ${Date.now()}`)
        await mirror.kill()
        assert.equal(await timeOf(client, { host: '127.0.0.1', port: portOf(mirror.peer) }, never), undefined)
      } finally {
        client.close()
      }
    }))
}
