import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutFlight } from '../../../lib/flight/flight.ts'
import type { Digest } from '../../../lib/oci/digest.ts'
import type { Key } from '../../../lib/oci/key.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'

const never = new AbortController().signal
const key = `sha256:${'a'.repeat(64)}` as Key

test('a node without flight finds announced content, and knows of no arriving content', async () => {
  const swarm = new MemorySwarm()
  const [holder, asking] = [1, 2].map((port) => swarm.join({ host: '127.0.0.1', port }))
  assert.ok(holder && asking)
  holder.advertise([key])
  const flight = withoutFlight(asking)
  assert.deepEqual(await Array.fromAsync(flight.sources(key, never)), [holder.self])
  assert.equal(await flight.state(holder.self, key as string as Digest, never), undefined)
})
