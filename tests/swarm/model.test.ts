import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { imbalance, loadOf, renderTables, SETTINGS } from './model.ts'

const PAGE = new URL('../../lib/swarm/scale.md', import.meta.url)

test("model: lib/swarm/scale.md has the model's tables", async () => {
  const page = await readFile(PAGE, 'utf8')
  const [, tables] = /<!-- model -->\n([\s\S]*?)\n<!-- \/model -->/.exec(page) ?? []
  assert.equal(tables, renderTables(), `the page should have:\n${renderTables()}`)
})

test('model: what a node keeps does not depend on the number of nodes once there are more than copies', () => {
  for (const nodes of [8, 100, 5_000]) assert.equal(loadOf(nodes, 1_000).records, 1_000 * SETTINGS.replicas)
  assert.equal(loadOf(3, 1_000).records, 3_000)
})

test('model: more digests cost more only of what depends on digests', () => {
  const [less, more] = [loadOf(100, 1_000), loadOf(100, 2_000)]
  for (const figure of ['refreshPackets', 'refreshCpu', 'records', 'mebibytes', 'announcing', 'welcome'] as const) {
    assert.ok(more[figure] > less[figure], figure)
  }
  assert.equal(more.noticing, less.noticing)
  assert.ok(Math.abs(more.packets - more.refreshPackets - (less.packets - less.refreshPackets)) < 1e-9)
})

test('model: the load is even if there are as many nodes as copies, but not if there are more', () => {
  assert.equal(imbalance(SETTINGS.replicas, SETTINGS.replicas), 1)
  const factor = imbalance(1_000, SETTINGS.replicas)
  assert.ok(factor > 1.3 && factor < 4, `${factor}`)
})
