/** The page of mirrors in their own processes, on the runtime of the test. */
import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { test } from 'node:test'
import { showsPage } from '../../lib/mirror/page.ts'
import type { Status } from '../../lib/page/status.ts'
import packageJson from '../../package.json' with { type: 'json' }
import { makeImage, withTemporaryDirectory } from '../fixtures/image.ts'
import { createAllMetrics } from '../fixtures/metrics.ts'
import { HELD_NAME, layerPath, TAG_PATH, withMirrors } from '../fixtures/mirrors.ts'
import { PATIENCE, waitFor } from '../fixtures/wait.ts'

test('showsPage: beyond loopback only if somebody decides so', () => {
  const loopback = { 'admin-listen': { host: '127.0.0.1', port: 0 } }
  const beyond = { 'admin-listen': { host: '10.0.0.1', port: 0 } }
  const everywhere = { 'admin-listen': { host: '0.0.0.0', port: 0 } }
  assert.equal(showsPage({ ...loopback, page: 'loopback' }), true)
  assert.equal(showsPage({ ...beyond, page: 'loopback' }), false)
  assert.equal(showsPage({ ...everywhere, page: 'loopback' }), false)
  assert.equal(showsPage({ ...beyond, page: 'on' }), true)
  assert.equal(showsPage({ ...loopback, page: 'off' }), false)
})

test('page of a mirror shows what came from where in a pull, and the metrics agree', async () => {
  const image = makeImage({ layers: 1, layerSize: 300_000 })
  await withMirrors(async ({ start }) => {
    const holder = await start(image, {})
    const asker = await start(undefined, { bootstrap: holder.peer, page: 'on' })
    const get = async (path: string) => {
      const answer = await fetch(`http://${asker.registry}${path}`)
      await answer.arrayBuffer()
      return answer.ok
    }
    const ask = async (path: string) => await (await fetch(`http://${asker.admin}${path}`)).text()
    const missed = await get(TAG_PATH.replace('manifests/1', 'manifests/none'))
    assert.equal(missed, false)
    await waitFor('the tag is found', () => get(TAG_PATH))
    await get(layerPath(image))
    const status = await waitFor('the layer is complete', async () => {
      const now = JSON.parse(await ask('/api/status')) as Status
      return now.pulls[0]?.parts.at(-1)?.endedAt === undefined ? undefined : now
    })
    assert.deepEqual([status.ready, status.reasons, status.findings], [true, [], undefined])
    const [pull, before] = status.pulls
    assert.equal(pull?.name, HELD_NAME)
    assert.ok(before?.name.endsWith(':none') && before.parts[0]?.source === 'none')
    const size = image.contents.at(-1)?.descriptor.size ?? 0
    const [tag, layer] = pull?.parts ?? []
    const [attempt] = tag?.transfers.at(-1)?.attempts ?? []
    assert.deepEqual([tag?.key, tag?.source, attempt?.peer], [HELD_NAME, 'peer', holder.peer])
    assert.deepEqual([layer?.source, layer?.size], ['peer', size])
    const [transfer] = layer?.transfers ?? []
    assert.deepEqual([transfer?.outcome, transfer?.bytes], ['complete', size])
    assert.deepEqual(
      transfer?.attempts.map(({ peer, bytes, ended }) => [peer, bytes, ended]),
      [[holder.peer, size, undefined]],
    )
    assert.ok((layer?.headMs ?? 0) > 0)
    assert.equal(status.totals.requests.peer, 2)
    assert.ok(status.totals.bytes.peer > size)
    const isHolder = ({ address }: { readonly address: string }) => address === holder.peer
    assert.ok(status.swarm.nodes.find(isHolder)?.peer?.headMs !== undefined)
    const told = await waitFor('both nodes have told of themselves', async () => {
      const { swarm } = JSON.parse(await ask('/api/status')) as Status
      return swarm.versions[0]?.[1] === 2 ? swarm.nodes.find(isHolder)?.told : undefined
    })
    assert.deepEqual([told.name, told.version], [hostname(), packageJson.version])
    // The tag and the digests of the image.
    assert.deepEqual([told.held, told.transfers], [image.contents.length + 1, 0])
    assert.ok(told.startedAt <= Date.now() && told.startedAt > Date.now() - 600_000)
    const metrics = await ask('/metrics')
    assert.match(metrics, /^swarmirror_request_seconds_count\{source="peer"\} 2$/m)
    assert.match(metrics, /^swarmirror_ready 1$/m)
    assert.match(metrics, /^swarmirror_store_up 1$/m)
    assert.match(metrics, /^swarmirror_peers_known [1-9]/m)
    // Only a mirror on containerd checks its node.
    const documented = createAllMetrics().descriptions.map(({ name }) => name)
    const rendered = [...metrics.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name)
    assert.deepEqual(new Set([...rendered, 'swarmirror_check_findings']), new Set(documented))
    // The other mirror gave as many bytes as this one took.
    const given = JSON.parse(await (await fetch(`http://${holder.admin}/api/status`)).text()) as Status
    assert.equal(given.given, status.totals.bytes.peer)
    assert.deepEqual(given.held.images, [HELD_NAME])
    assert.equal(given.held.digests, image.contents.length)
  })
})

test('page of a mirror remembers the last day across a restart, with --data-dir', async () => {
  const image = makeImage({ layers: 1, layerSize: 100_000 })
  await withTemporaryDirectory(async (dir) => {
    await withMirrors(async ({ start }) => {
      const status = async ({ admin }: { readonly admin: string }) =>
        JSON.parse(await (await fetch(`http://${admin}/api/status`)).text()) as Status
      const first = await start(image, { 'data-dir': dir })
      await (await fetch(`http://${first.registry}${layerPath(image)}`)).arrayBuffer()
      const { bytes } = (await status(first)).totals
      assert.ok(bytes.local >= 100_000)
      assert.equal(await first.stop(AbortSignal.timeout(PATIENCE)), 0)
      const second = await start(image, { 'data-dir': dir })
      const { totals, history } = await status(second)
      assert.equal(totals.bytes.local, 0)
      assert.equal(
        history.bars.reduce((sum, [, { local }]) => sum + local, 0),
        bytes.local,
      )
    })
  })
})

test('page of a mirror does not exist with --page off', async () => {
  await withMirrors(async ({ start }) => {
    const mirror = await start(undefined, { page: 'off' })
    for (const path of ['/', '/api/status', '/page.js']) {
      assert.equal((await fetch(`http://${mirror.admin}${path}`)).status, 404, path)
    }
    assert.equal((await fetch(`http://${mirror.admin}/readyz`)).status, 200)
  })
})
