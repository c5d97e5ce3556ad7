/** Who resolves tags, and thereby who may pull: upstream registries that require a secret, and nodes that hold their images. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { tagKey } from '../../lib/oci/key.ts'
import type { Secret } from '../doubles/cri.ts'
import {
  byMajor,
  manifestPath,
  type Node,
  type PushedImage,
  REGISTRY_DOOR,
  requestsFor,
  testCluster,
  type UpstreamRequest,
  until,
} from './harness/index.ts'
import { SentRequests } from './harness/requests.ts'

const KINDS = ['basic', 'bearer'] as const
const SECRET: Secret = { username: 'team', password: 'pull-secret' }
const WRONG: Secret = { username: 'team', password: 'guessed' }
const [ALICE, BOB] = ['alice', 'bob'].map((username) => ({ username, password: `${username}'s` }))

const cluster = await testCluster({
  nodes: ['a', 'b', 'c', { name: 'strict', flags: { resolve: 'upstream' }, start: ['containerd'] }],
  locked: KINDS,
})
const [a, b, c, strict] = ['a', 'b', 'c', 'strict'].map((name) => cluster.node(name)) as [Node, Node, Node, Node]
const { lock: basic } = cluster.locked('basic')
const { lock: bearer } = cluster.locked('bearer')
const openLocks = () => {
  basic.setSecrets([SECRET])
  bearer.setSecrets([SECRET, ALICE, BOB].filter((secret) => secret !== undefined))
}
openLocks()

// As `hosts --resolve upstream` writes it.
for (const [name, server] of [
  ['_default'],
  ...KINDS.map((kind) => [`${kind}.test`, cluster.locked(kind).url] as const),
]) {
  const hosts = [{ url: REGISTRY_DOOR, capabilities: ['pull'] as const }]
  await strict.writeHosts(name ?? '', server === undefined ? { hosts } : { server, hosts })
}
await strict.mirror.start()

/** The requests that each mirror got from its containerd. */
const sent = new Map<Node, SentRequests>()
for (const node of cluster.nodes)
  sent.set(node, await SentRequests.start(node.network, Number(new URL(REGISTRY_DOOR).port)))

const push = async (kind: (typeof KINDS)[number], name: string, seed = name, layers = [100_000, 1 << 20]) =>
  await cluster.locked(kind).push(await cluster.makeImage({ seed: `${kind} ${seed}`, layers }), name)

/** The requests to upstream that ask for content of the image. */
const contentOf = (image: PushedImage, asked: readonly UpstreamRequest[]) =>
  requestsFor(image.digests, asked).filter(({ method }) => method === 'GET')

/** containerd 2 ranks the mirror's 404 above upstream's answer (docker/resolver.go). */
const DENIED = byMajor({ 1: /unauthorized|authorization failed|denied|401/i, 2: /not found|unauthorized|denied|401/i })
const UNREACHABLE = byMajor({ 1: /refused|i\/o timeout/, 2: /not found|refused/ })

/** Asserts that a pull is denied, and that containerd got nothing of the image. */
async function assertDenied(node: Node, image: PushedImage, secret?: Secret): Promise<void> {
  const held = async () => (await node.content()).filter((digest) => image.digests.includes(digest)).length
  const before = await held()
  for (const reference of [image.reference, image.digestReference]) {
    await assert.rejects(node.pull(reference, { secret }), DENIED, `${reference} on ${node.name}`)
  }
  assert.equal(await held(), before)
}

const images = Object.fromEntries(await Promise.all(KINDS.map(async (kind) => [kind, await push(kind, 'team/app:v1')])))
const imageOf = (kind: (typeof KINDS)[number]): PushedImage => images[kind] ?? assert.fail()

for (const kind of KINDS) {
  const registry = cluster.locked(kind)
  const image = imageOf(kind)

  describe(`resolve: a registry with ${kind}`, () => {
    test('with the secret, upstream resolves the tag, and the content comes from another node', async () => {
      const first = await registry.requestsDuring(() => a.pull(image.reference, { secret: SECRET }))
      assert.equal(contentOf(image, first).filter(({ status }) => status === 200).length, image.digests.length)
      await b.untilOffered(image)
      const second = await registry.requestsDuring(() => b.pull(image.reference, { secret: SECRET }))
      assert.deepEqual(contentOf(image, second), [])
      assert.deepEqual(
        second.map(({ method, status }) => [method, status]),
        [
          ['HEAD', 401],
          ['HEAD', 200],
        ],
      )
      assert.deepEqual(await b.wrongFiles(image.reference, image), [])
      const byDigest = await registry.requestsDuring(() => b.pull(image.digestReference, { secret: SECRET }))
      assert.deepEqual(contentOf(image, byDigest), [])
    })

    test('without the secret or with a wrong one, nobody gets content of this node or another', async () => {
      for (const node of [b, c]) {
        const asked = await registry.requestsDuring(async () => {
          for (const secret of [undefined, WRONG]) await assertDenied(node, image, secret)
        })
        assert.deepEqual([...new Set(asked.map(({ method, status }) => `${method} ${status}`))], ['HEAD 401'])
      }
    })

    test('a secret that is revoked between two pulls works for the first one only', async () => {
      await b.pull(image.reference, { secret: SECRET })
      registry.lock.setSecrets([])
      for (const node of [b, c]) await assertDenied(node, image, SECRET)
      openLocks()
      await until('the secret to count again', () => b.pull(image.reference, { secret: SECRET }))
    })

    test('a tag that was pushed again yields the new image, although nodes hold the old one', async () => {
      const old = await push(kind, 'team/again:v1', 'old')
      await a.pull(old.reference, { secret: SECRET })
      await c.untilOffered(old)
      const fresh = await push(kind, 'team/again:v1', 'fresh')
      for (const node of [a, c]) {
        assert.equal(await node.pull(fresh.reference, { secret: SECRET }), fresh.own.config.digest)
      }
    })

    test('nobody believes a member that gives a tag another digest', async () => {
      const [evil, good] = [await push(kind, 'team/evil:v1'), await push(kind, 'team/good:v1')]
      await a.pull(evil.reference, { secret: SECRET })
      await a.ctr('images', 'tag', evil.reference, good.reference)
      const key = tagKey({ registry: good.registry, repository: good.repository, tag: good.tag })
      await until('A to announce the tag', async () => (await cluster.announcers([key]))[key]?.includes('a') === true)
      assert.equal(await c.pull(good.reference, { secret: SECRET }), good.own.config.digest)
    })

    test('a containerd that resolves tags upstream asks the mirror for content only', async () => {
      const requests = sent.get(strict) ?? assert.fail()
      await strict.untilOffered(image)
      const heads = requests.count('HEAD')
      const asked = await registry.requestsDuring(() => strict.pull(image.reference, { secret: SECRET }))
      assert.deepEqual(contentOf(image, asked), [])
      assert.equal(requests.count('HEAD'), heads, 'HEAD requests at the mirror')
      await assertDenied(strict, image)
    })
  })
}

test('resolve: a tenant cannot get on another node what another tenant pulled', async () => {
  const registry = cluster.locked('bearer')
  const image = await push('bearer', 'alice/app:v1')
  await a.pull(image.reference, { secret: ALICE })
  await c.untilOffered(image)
  await assertDenied(c, image, BOB)
  const asked = await registry.requestsDuring(() => c.pull(image.reference, { secret: ALICE }))
  assert.deepEqual(contentOf(image, asked), [])
})

test('resolve: a pull succeeds although upstream goes down in its middle', async () => {
  const registry = cluster.locked('basic')
  const image = await push('basic', 'team/middle:v1', 'middle', [4 << 20])
  const [layer] = image.own.layers
  await a.pull(image.reference, { secret: SECRET })
  await c.untilOffered(image)
  await a.network.shape('out', 2_000_000)
  const pulled = c.pull(image.reference, { secret: SECRET })
  await until('the pull to be in its layer', async () => (await c.ingested(layer?.digest ?? assert.fail())) > 0)
  await registry.whileDown(async () => {
    await a.network.unshape('out')
    await pulled
  })
  assert.deepEqual(await c.wrongFiles(image.reference, image), [])
})

test('resolve: while upstream is down or hangs, the swarm resolves and says so; with --resolve upstream nobody does so', async () => {
  const [down, hanging] = [cluster.locked('basic'), cluster.locked('bearer')]
  await hanging.daemon.pause()
  try {
    await down.whileDown(async () => {
      for (const kind of KINDS) {
        const image = imageOf(kind)
        await c.untilResolved(image)
        for (const path of [manifestPath(image, image.tag), manifestPath(image)]) {
          const { headers } = await c.curl(path, { method: 'HEAD' })
          assert.equal(headers.get('x-swarmirror-resolved'), 'swarm')
          assert.equal(headers.get('docker-content-digest'), image.target.digest)
        }
        // As documented: the swarm gives what upstream cannot deny at the moment.
        await c.pull(image.reference)
        await c.pull(image.digestReference)
        assert.deepEqual(await c.wrongFiles(image.reference, image), [])
      }
      const image = imageOf('basic')
      await strict.removeImage(image.reference)
      for (const reference of [image.reference, image.digestReference]) {
        await assert.rejects(strict.pull(reference, { secret: SECRET }), UNREACHABLE)
      }
    })
  } finally {
    await hanging.daemon.resume()
  }
  for (const kind of KINDS) {
    const image = imageOf(kind)
    await until(`${image.registry} to resolve again`, async () => {
      return (await c.curl(manifestPath(image, image.tag), { method: 'HEAD' })).status === 404
    })
    await assertDenied(c, image)
    await c.pull(image.reference, { secret: SECRET })
  }
})

test('resolve: no mirror was ever sent a credential', async () => {
  for (const [{ name }, requests] of sent) {
    assert.ok(requests.count('GET') > 0, name)
    assert.deepEqual(await requests.credentials(), [], name)
    await requests.stop()
  }
})
