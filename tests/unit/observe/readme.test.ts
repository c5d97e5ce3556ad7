/** Checks what lib/observe/README.md says about metrics and the log. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutFlight } from '../../../lib/flight/flight.ts'
import { createLogger } from '../../../lib/observe/log.ts'
import { targetKey } from '../../../lib/oci/key.ts'
import { createTransferMetrics } from '../../../lib/transfer/metrics.ts'
import { Transfer } from '../../../lib/transfer/transfer.ts'
import { BLOB, contentOf, makeParts, OPTIONS, startGoodPeer, withPeers } from '../../doubles/http-peers.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'
import { peerOf } from '../../doubles/peers.ts'
import { never } from '../../fixtures/layout.ts'
import { createAllMetrics } from '../../fixtures/metrics.ts'
import { page, partOf } from '../../fixtures/readme.ts'

const PAGE = 'lib/observe/README.md'

test('lib/observe/README.md has the table of the metrics as they are', () => {
  const rows = createAllMetrics().descriptions.map(({ name, type, labels, help }) => [
    `\`${name}\``,
    type,
    labels.map((label) => `\`${label}\``).join(', ') || 'none',
    help,
  ])
  const table = [['metric', 'type', 'labels', 'meaning'], ['---', '---', '---', '---'], ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
  assert.equal(partOf(PAGE, 'metrics'), table, `the table must be:\n${table}`)
})

test('every metric that is rendered is described, as it is rendered', async () => {
  const metrics = createAllMetrics()
  const rendered = [...(await metrics.render()).body.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$/gm)]
  assert.deepEqual(
    rendered.map(([, name, help, type]) => ({ name, help, type })),
    metrics.descriptions.map(({ name, help, type }) => ({ name, help, type })),
  )
})

test('lib/observe/README.md tells what every label of every metric may be', () => {
  const labels = new Set(createAllMetrics().descriptions.flatMap(({ labels }) => labels))
  const told = [...partOf(PAGE, 'labels').matchAll(/^- `([a-z_]+)`/gm)].map(([, label]) => label)
  assert.deepEqual(new Set(told), labels)
})

test('lib/observe/README.md names every value that a label is known to have', () => {
  const told = new Map(
    [...partOf(PAGE, 'labels').matchAll(/^- `([a-z_]+)`([\s\S]*?)(?=\n- `|$(?![\s\S]))/gm)].map(
      ([, label = '', text = '']) => [label, text],
    ),
  )
  for (const { name, values } of createAllMetrics().descriptions) {
    for (const [label, known] of Object.entries(values)) {
      for (const value of known) assert.ok(told.get(label)?.includes(`\`${value}\``), `${name}: ${label} ${value}`)
    }
  }
})

test('lib/observe/README.md shows a line of the log as a transfer makes it', async () => {
  const example = JSON.parse(/^\{.*"event":"transfer".*\}$/m.exec(page(PAGE))?.[0] ?? assert.fail('no example'))
  const shape = (line: Record<string, unknown>) => Object.entries(line).map(([name, value]) => [name, typeof value])
  await withPeers([startGoodPeer], async ({ peers, lines }) => {
    await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    const written: string[] = []
    const log = createLogger((line) => written.push(line), 'info')
    const [line, ...more] = lines.filter(({ level }) => level === 'info')
    assert.ok(line !== undefined && more.length === 0, 'one line a transfer')
    log.info(line.event, line.fields)
    assert.deepEqual(shape(example), shape(JSON.parse(written[0] ?? '')))
    const { event, level, outcome } = example
    assert.deepEqual([event, level, outcome], [line.event, line.level, line.fields.outcome])
  })
})

test('lib/observe/README.md tells every outcome of a transfer', async () => {
  const made = makeParts()
  const router = new MemorySwarm().join(peerOf('self'))
  const ask = () => assert.fail('nobody is to be asked')
  const metrics = createTransferMetrics(made.metrics)
  const parts = {
    ...{ ...made, metrics, flight: withoutFlight(router), address: '', ask },
    ...{ ahead: () => 0, clock: new ManualClock() },
  }
  const outcomes = ['complete', 'cancelled', 'corrupt', 'failed', 'missing'] as const
  for (const outcome of outcomes) {
    const transfer = new Transfer(parts, OPTIONS, BLOB)
    transfer.finish(outcome)
    // The transfer ends once, even if it is finished again.
    transfer.finish('failed')
  }
  parts.client.close()
  const told = parts.lines.map(({ fields }) => fields.outcome)
  assert.deepEqual(told, outcomes)
  assert.ok(parts.lines.every(({ fields }) => fields.key === targetKey(BLOB)))
  for (const outcome of outcomes) assert.match(partOf(PAGE, 'labels'), new RegExp(`\`${outcome}\``))
})
