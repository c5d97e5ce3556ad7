/** The memory that a node of a large swarm needs for its own content and for that of others. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import process from 'node:process'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { silentLogger } from '../../../lib/observe/log.ts'
import { digestKey } from '../../../lib/oci/key.ts'
import { runtimeName } from '../../../lib/platform/runtime.ts'
import { ContentFeed } from '../../../lib/store/feed.ts'
import { REFRESH_PERIOD, REPLICAS } from '../../../lib/swarm/announce/announcer.ts'
import { Schedule } from '../../../lib/swarm/announce/schedule.ts'
import { NetworkMap } from '../../../lib/swarm/dht/network-map.ts'
import { createRecordStore, RECORD_LIFE } from '../../../lib/swarm/dht/record-store.ts'
import { digestOf } from '../../fixtures/image.ts'

const [DIGESTS, MEMBERS] = [10_000, 200]
/** MiB in all; it was 15.1 on Bun and 15.6 on Node. */
const MOST = 20

const hash = (text: string) => new Uint8Array(createHash('sha256').update(text).digest())

/** MiB that are in use, after a collection. */
function used(): number {
  if ('Bun' in globalThis) (globalThis as unknown as { Bun: { gc(force: boolean): void } }).Bun.gc(true)
  else {
    setFlagsFromString('--expose-gc')
    runInNewContext('gc')()
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return (heapUsed + arrayBuffers) / 1024 ** 2
}

function announced(digests: number): { readonly schedule: Schedule; readonly map: NetworkMap } {
  const self = { host: '10.0.0.1', port: 5001 }
  const map = new NetworkMap({ ...self, id: hash('self') })
  for (let at = 0; at < MEMBERS; at++) map.answered({ host: `10.0.1.${at}`, port: 5001, id: hash(`node ${at}`) }, 1)
  const options = { replicas: REPLICAS, refreshPeriod: REFRESH_PERIOD, recordLife: RECORD_LIFE }
  const schedule = new Schedule(map, hash, Math.random, options)
  schedule.advertise(
    Array.from({ length: digests }, () => digestKey(digestOf(randomBytes(32)))),
    10,
  )
  for (let task = schedule.next(20); task !== undefined; task = schedule.next(20)) schedule.landed(task, [], 15)
  return { schedule, map }
}

test('10,000 digests and 200 members take little memory', { skip: runtimeName === 'deno' && 'no collection' }, () => {
  announced(100)
  const before = used()
  const own = announced(DIGESTS)
  const others = createRecordStore({ log: silentLogger })
  for (let at = 0; at < DIGESTS * REPLICAS; at++)
    others.add(hash(String(at)), Uint8Array.of(10, 0, 1, at % MEMBERS, 1, 2))
  const feed = new ContentFeed()
  feed.replace(new Set(Array.from({ length: DIGESTS }, () => digestKey(digestOf(randomBytes(32))))))
  const more = used() - before
  assert.ok(more < MOST, `${more.toFixed(1)} MiB`)
  // Keeps them alive until here.
  assert.deepEqual([own.schedule.size, others.size, feed.held.size], [DIGESTS, DIGESTS * REPLICAS, DIGESTS])
})
