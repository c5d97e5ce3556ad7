import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { registerMirrorMetrics } from '../../../lib/mirror/metrics.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { registerProcessMetrics, watchEventLoop } from '../../../lib/observe/process-figures.ts'
import { KnownPeers } from '../../../lib/peers/known-peers.ts'
import { registerPeerMetrics } from '../../../lib/peers/metrics.ts'
import { runtimeName, runtimeVersion } from '../../../lib/platform/runtime.ts'
import { registerSwarmMetrics } from '../../../lib/swarm/metrics.ts'
import manifest from '../../../package.json' with { type: 'json' }
import { peerOf } from '../../doubles/peers.ts'
import { exhausted } from '../../fixtures/exhausted.ts'
import { NO_FIGURES } from '../../fixtures/metrics.ts'
import { waitFor } from '../../fixtures/wait.ts'

/** The values of this process's metrics, by name. */
async function figures(): Promise<Readonly<Record<string, number>>> {
  const metrics = createMetrics()
  registerProcessMetrics(metrics)()
  const { body } = metrics.render()
  return Object.fromEntries(
    [...body.matchAll(/^process_(\w+) (\S+)$/gm)].map(([, name, value]) => [name, Number(value)]),
  )
}

const never = () => assert.fail('it does not rest')

test('figures are of this process, on every runtime', async () => {
  const { cpu_seconds_total = 0, resident_memory_bytes = 0, heap_bytes = 0, ...rest } = await figures()
  const { start_time_seconds = 0, open_fds = 0, max_fds = -1 } = rest
  assert.ok(cpu_seconds_total > 0.01)
  assert.ok(resident_memory_bytes > 2 ** 20)
  assert.ok(heap_bytes > 2 ** 16)
  const age = Date.now() / 1000 - start_time_seconds
  assert.ok(age > 0 && age < 3_600, `${age} s old`)
  if (process.platform === 'linux') {
    assert.ok(open_fds >= 3)
    assert.ok(max_fds === 0 || max_fds >= open_fds)
  }
  assert.match(runtimeVersion, /^\d+\.\d+/)
})

test('figures always tell the same start of the process', async () => {
  const first = await figures()
  for (let round = 0; round < 20; round++) {
    await sleep(1)
    assert.equal((await figures()).start_time_seconds, first.start_time_seconds)
  }
})

test('metrics have the figures of the process and of parts that are read on demand', async () => {
  const metrics = createMetrics()
  registerProcessMetrics(metrics)()
  registerMirrorMetrics(metrics, {
    readiness: { reasons: [] },
    store: { isUp: false },
    held: { size: 9 },
    peer: { running: 5 },
  })
  const figures = {
    ...{ keys: 7, waiting: 2, refreshed: 40, lag: 1_500 },
    ...{
      requests: 90,
      silent: 3,
      records: 12,
      recordLimit: 50,
      recordsRefused: 6,
      turnedAway: 1,
      refused: 8,
      neighbours: 4,
    },
  }
  registerSwarmMetrics(metrics, () => ({ ...NO_FIGURES, ...figures }))
  const known = new KnownPeers()
  for (const name of ['a', 'b', 'c']) known.seen(peerOf(name))
  known.of(peerOf('d')).failed('unreachable')
  registerPeerMetrics(metrics, known)
  metrics.render()
  const { body } = metrics.render()
  for (const line of [
    'swarmirror_ready 1',
    'swarmirror_store_up 0',
    'swarmirror_keys_held 9',
    'swarmirror_peer_door_transfers 5',
    'swarmirror_keys_announced 7',
    'swarmirror_keys_waiting 2',
    // They are read twice, but not added up.
    'swarmirror_keys_refreshed_total 40',
    'swarmirror_refresh_lag_seconds 1.5',
    'swarmirror_swarm_requests_total 90',
    'swarmirror_swarm_silent_total 3',
    'swarmirror_swarm_records 12',
    'swarmirror_swarm_record_limit 50',
    'swarmirror_swarm_records_refused_total 6',
    'swarmirror_announcements_refused_total 1',
    'swarmirror_datagrams_refused_total 8',
    'swarmirror_peers_known 4',
    'swarmirror_peers_connected 3',
    'swarmirror_peers_aside 1',
  ]) {
    assert.ok(body.includes(`\n${line}\n`), line)
  }
  const build = /^swarmirror_build_info\{version="([^"]+)",runtime="([^"]+)",runtime_version="([^"]+)"\} 1$/m.exec(body)
  assert.deepEqual(build?.slice(1), [manifest.version, runtimeName, runtimeVersion])
  assert.match(body, /^process_resident_memory_bytes \d{7,}$/m)
  assert.match(body, /^process_cpu_seconds_total 0?\d*\.?\d+/m)
})

test('metrics work when the process has no descriptor left, and show that all are open', async () => {
  const { opened, told } = await exhausted()
  assert.ok(opened > 100)
  assert.equal(told, 'process_open_fds 200,process_max_fds 200')
})

test('watchEventLoop tells by how much timers are late, until it is ended', async () => {
  const seen: number[] = []
  const stop = watchEventLoop((seconds) => seen.push(seconds), never, [5, 5])
  const held = performance.now() + 60
  while (performance.now() < held) JSON.stringify(seen)
  await waitFor('a timer was late', () => seen.some((seconds) => seconds > 0.02))
  stop()
  const { length } = seen
  let later = 0
  const stopOther = watchEventLoop(() => later++, never, [5, 5])
  await waitFor('another one has told three times', () => later >= 3)
  stopOther()
  assert.equal(seen.length, length)
  assert.ok(seen.every((seconds) => seconds >= 0))
})

test('watchEventLoop looks less and less often at a process that rests, and often again at one that works', async () => {
  let [looks, used, rests, uses] = [0, 0, 0, 0]
  const stop = watchEventLoop(
    () => looks++,
    () => rests++,
    [1, 128],
    () => {
      used += uses
      return used
    },
  )
  // 1, 2, 4 and so on: some hundred milliseconds in all.
  await waitFor('it rests', () => rests === 1)
  const before = looks
  await waitFor('it rests on', () => looks >= before + 2)
  assert.equal(rests, 1)
  uses = 1_000
  await waitFor('it looks often', () => looks >= before + 20)
  assert.equal(rests, 1)
  uses = 0
  await waitFor('it rests again', () => rests === 2)
  stop()
})
