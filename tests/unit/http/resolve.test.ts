import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHttpMetrics } from '../../../lib/http/metrics.ts'
import { createRegistryDoor } from '../../../lib/http/registry.ts'
import type { Resolution } from '../../../lib/http/resolve.ts'
import { Activity } from '../../../lib/observe/activity.ts'
import { silentLogger } from '../../../lib/observe/log.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { createPolicy } from '../../../lib/oci/policy.ts'
import { freeAdmission } from '../../doubles/admission.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { type DoorSetup, withDoors } from '../../fixtures/door.ts'
import { makeImage } from '../../fixtures/image.ts'
import { tagged } from '../../fixtures/layout.ts'

const NAME = 'registry.example/team/app:1'
const NS = 'ns=registry.example'
const image = makeImage()
const [manifest, , layer] = image.contents
const TAG = `/v2/team/app/manifests/1?${NS}`
const MANIFEST = `/v2/team/app/manifests/${manifest?.descriptor.digest}?${NS}`
const LAYER = `/v2/team/app/blobs/${layer?.descriptor.digest}?${NS}`

/** The requests with which containerd and others resolve, and those with which they fetch. */
const RESOLVES = [
  ['HEAD', TAG],
  ['GET', TAG],
  ['HEAD', MANIFEST],
  ['HEAD', LAYER],
] as const
const FETCHES = [
  ['GET', MANIFEST],
  ['GET', LAYER],
] as const

const fallback = (answers: boolean, asked: string[] = []): Resolution => ({
  by: 'fallback',
  upstreams: {
    async answers(registry) {
      asked.push(registry)
      return answers
    },
  },
})
const byUpstream: Resolution = { by: 'upstream', upstreams: { answers: () => assert.fail('upstream was looked at') } }

const HOLDERS: readonly (readonly [string, DoorSetup])[] = [
  ['local', { local: [image, NAME] }],
  ['peer', { remote: [image, NAME] }],
]

for (const [source, setup] of HOLDERS) {
  for (const [what, resolution] of [
    ['upstream that answers', fallback(true)],
    ['--resolve upstream', byUpstream],
  ] as const) {
    test(`registry door with ${what}: what resolves is for upstream, and content is given (${source})`, () =>
      withDoors({ ...setup, resolution }, async ({ ask, lines }) => {
        for (const [method, path] of RESOLVES) {
          const response = await ask(path, { method })
          assert.equal(response.status, 404, `${method} ${path}`)
          assert.equal(response.headers.get('www-authenticate'), null)
          assert.equal(response.headers.get('x-swarmirror-resolved'), null)
        }
        const { errors } = (await (await ask(TAG)).json()) as { errors: { code: string; message: string }[] }
        assert.equal(errors[0]?.code, 'MANIFEST_UNKNOWN')
        assert.match(errors[0]?.message ?? '', /^registry\.example resolves this itself/)
        for (const [method, path] of FETCHES) {
          const response = await ask(path, { method })
          assert.equal(response.status, 200, path)
          assert.equal(response.headers.get('x-swarmirror-source'), source)
          await response.body?.cancel()
        }
        assert.deepEqual(
          lines.filter(({ level }) => level !== 'debug' && level !== 'info'),
          [],
        )
      }))
  }

  test(`registry door with upstream that is silent: the swarm resolves, and marks it (${source})`, () =>
    withDoors({ ...setup, resolution: fallback(false) }, async ({ ask, lines }) => {
      for (const [method, path] of RESOLVES) {
        const response = await ask(path, { method })
        assert.equal(response.status, 200, `${method} ${path}`)
        assert.equal(response.headers.get('x-swarmirror-resolved'), 'swarm')
        await response.body?.cancel()
      }
      for (const [, path] of FETCHES) {
        const response = await ask(path)
        assert.deepEqual([response.status, response.headers.get('x-swarmirror-resolved')], [200, null])
        await response.body?.cancel()
      }
      assert.equal((await ask(`/v2/team/app/manifests/2?${NS}`)).headers.get('x-swarmirror-resolved'), null)
      const told = lines.filter(({ event }) => event.startsWith('resolved by the swarm'))
      assert.equal(told.length, RESOLVES.length)
      assert.deepEqual(told[0], {
        level: 'warn',
        event: 'resolved by the swarm because upstream does not answer',
        fields: { key: NAME, digest: image.target.digest },
      })
    }))

  test(`registry door with --resolve swarm: the swarm resolves, without a mark (${source})`, () =>
    withDoors(setup, async ({ ask }) => {
      for (const [method, path] of RESOLVES) {
        const response = await ask(path, { method })
        assert.deepEqual([response.status, response.headers.get('x-swarmirror-resolved')], [200, null])
        await response.body?.cancel()
      }
    }))
}

test('registry door: only a resolve of mirrored content makes it look at upstream, at the right registry', async () => {
  const asked: string[] = []
  const policy = createPolicy({ registries: new Set(['registry.example']) })
  await withDoors({ local: [image, NAME], policy, resolution: fallback(true, asked) }, async ({ ask }) => {
    for (const [, path] of FETCHES) await (await ask(path)).body?.cancel()
    for (const path of ['/v2/', '/v2/team/app/tags/list', '/v2/team/app/manifests/1?ns=docker.io']) await ask(path)
    await ask(TAG, { method: 'POST' })
    assert.deepEqual(asked, [])
    await ask(TAG, { method: 'HEAD' })
    assert.deepEqual(asked, ['registry.example'])
  })
})

test('registry door: a failure to look at upstream is a 500, and no 404', async () => {
  const upstreams = { answers: () => Promise.reject(new Error('a disk error')) }
  await withDoors({ resolution: { by: 'fallback', upstreams } }, async ({ ask, lines }) => {
    assert.equal((await ask(TAG, { method: 'HEAD' })).status, 500)
    assert.equal(lines.at(-1)?.level, 'error')
  })
})

test('registry door: every resolve is counted by who answered it, and counts as neither hit nor miss if upstream resolves', async () => {
  const store = createMemoryStore()
  store.addImage(image, tagged(NAME))
  const peers = { fetch: async () => undefined }
  for (const [resolution, path, by, requests] of [
    [fallback(true), TAG, 'upstream', { local: 0, peer: 0, none: 0 }],
    [fallback(false), TAG, 'swarm', { local: 1, peer: 0, none: 0 }],
    [fallback(false), `/v2/team/app/manifests/2?${NS}`, 'nobody', { local: 0, peer: 0, none: 1 }],
  ] as const) {
    const metrics = createHttpMetrics(createMetrics())
    const activity = new Activity()
    const dependencies = { store, peers, policy: createPolicy(), metrics, activity, resolution, log: silentLogger }
    const request = new Request(`http://127.0.0.1:5000${path}`, { method: 'HEAD' })
    await createRegistryDoor(dependencies).fetch(request, freeAdmission())
    const { values } = metrics.resolves
    assert.deepEqual(
      values.filter(({ value }) => value > 0).map(({ labels, value }) => [labels.by, value]),
      [[by, 1]],
    )
    assert.deepEqual(activity.totals.requests, requests)
    assert.equal(activity.pulls[0]?.parts[0]?.isForUpstream, by === 'upstream' ? true : undefined)
  }
})
