import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { HOSTS_FILES, type HostsReader } from '../../../../lib/containerd/hosts/files.ts'
import { upstreamPlaceOf } from '../../../../lib/containerd/hosts/upstream-hosts.ts'
import type { UpstreamPlace } from '../../../../lib/upstream/upstreams.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'

const MIRROR = 'http://127.0.0.1:5000'
const OWN = `[host."${MIRROR}"]\n  capabilities = ["pull", "resolve"]\n`

/** The hosts of a registry on a node with these files below its certs directory. */
async function placeOf(registry: string, files: Readonly<Record<string, string>>): Promise<UpstreamPlace> {
  let place: UpstreamPlace | undefined
  await withTemporaryDirectory(async (certsDir) => {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(join(certsDir, name, '..'), { recursive: true })
      await writeFile(join(certsDir, name), text)
    }
    place = await upstreamPlaceOf(registry, { certsDir, mirrorUrl: MIRROR }, HOSTS_FILES)
  })
  return place ?? assert.fail('no place')
}

async function urlsOf(registry: string, files: Readonly<Record<string, string>>): Promise<readonly string[]> {
  return (await placeOf(registry, files)).hosts.map(({ url }) => url)
}

test('upstreamPlaceOf: without a hosts.toml, containerd asks the registry itself', async () => {
  for (const [registry, url] of [
    ['docker.io', 'https://registry-1.docker.io/v2'],
    ['ghcr.io', 'https://ghcr.io/v2'],
    ['registry.example:5000', 'https://registry.example:5000/v2'],
    ['[fd00::1]:5000', 'https://[fd00::1]:5000/v2'],
    ['localhost:5000', 'http://localhost:5000/v2'],
    ['127.0.0.1:5000', 'http://127.0.0.1:5000/v2'],
  ] as const) {
    assert.deepEqual(await placeOf(registry, {}), { hosts: [{ url, isNamed: false }], isKnown: false })
  }
})

test('upstreamPlaceOf: the hosts after the mirror count, in order, and the server last', async () => {
  const toml = [
    'server = "https://upstream.example"\n[host."https://before.example"]\n',
    OWN,
    '[host."https://second.example/v2/hub"]\n  override_path = true\n',
    '[host."http://content.example:8080"]\n  capabilities = ["pull"]\n[host."third.example"]\n',
  ].join('')
  const { hosts, isKnown } = await placeOf('ghcr.io', { 'ghcr.io/hosts.toml': toml })
  assert.equal(isKnown, true)
  assert.deepEqual(
    hosts.map(({ url, isNamed }) => [url, isNamed]),
    [
      ['https://second.example/v2/hub', true],
      ['https://third.example/v2', true],
      ['https://upstream.example/v2', true],
    ],
  )
})

test('upstreamPlaceOf: the directory of the registry counts before _default, which does not make it known', async () => {
  const files = {
    '_default/hosts.toml': `server = "https://all.example"\n${OWN}`,
    'quay.io/hosts.toml': OWN,
    'a.example_5000_/hosts.toml': `${OWN}[host."https://cache.example"]\n`,
  }
  assert.deepEqual(await urlsOf('quay.io', files), ['https://quay.io/v2'])
  assert.deepEqual(await urlsOf('a.example:5000', files), ['https://cache.example/v2', 'https://a.example:5000/v2'])
  const { hosts, isKnown } = await placeOf('other.example', files)
  assert.deepEqual([hosts[0]?.url, hosts[0]?.isNamed, isKnown], ['https://all.example/v2', true, false])
})

test('upstreamPlaceOf: a registry counts as named only by a directory of its own', async () => {
  const only = async (files: Readonly<Record<string, string>>) => (await placeOf('127.0.0.1:6000', files)).hosts[0]
  assert.equal((await only({ '_default/hosts.toml': OWN }))?.isNamed, false)
  assert.equal((await only({ '127.0.0.1_6000_/hosts.toml': OWN }))?.isNamed, true)
})

test('upstreamPlaceOf: the mirror is known by both names of loopback', async () => {
  const toml = '[host."http://localhost:5000"]\n[host."https://next.example"]\n'
  assert.deepEqual(await urlsOf('ghcr.io', { 'ghcr.io/hosts.toml': toml }), [
    'https://next.example/v2',
    'https://ghcr.io/v2',
  ])
})

test('upstreamPlaceOf returns the existing certificates that a host names', async () => {
  const toml = [
    'ca = "root.pem"\n',
    OWN,
    '[host."https://pairs.example"]\n  ca = ["a.pem", "gone.pem"]\n  client = [["c.pem", "k.pem"], ["both.pem", ""]]\n',
    '[host."https://single.example"]\n  client = "both.pem"\n  ca = "a.pem"\n  skip_verify = true\n',
    '[host."https://gone.example"]\n  ca = "gone.pem"\n',
  ].join('')
  const pems = Object.fromEntries(['root', 'a', 'c', 'k', 'both'].map((name) => [`ghcr.io/${name}.pem`, name]))
  const { hosts } = await placeOf('ghcr.io', { 'ghcr.io/hosts.toml': toml, ...pems })
  assert.deepEqual(
    hosts.map(({ ca, cert, key }) => [ca, cert, key]),
    [
      [['a'], ['c', 'both'], ['k', 'both']],
      [undefined, ['both'], ['both']],
      [undefined, undefined, undefined],
      [['root'], undefined, undefined],
    ],
  )
})

test('upstreamPlaceOf: an unreadable hosts.toml, or one that is no TOML, does not count', async () => {
  assert.deepEqual(await placeOf('ghcr.io', { 'ghcr.io/hosts.toml': 'server = [' }), {
    hosts: [{ url: 'https://ghcr.io/v2', isNamed: true }],
    isKnown: true,
  })
  const read = () => Promise.reject(Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' }))
  const files: HostsReader = { ...HOSTS_FILES, read }
  const place = await upstreamPlaceOf('ghcr.io', { certsDir: '/nowhere', mirrorUrl: MIRROR }, files)
  assert.deepEqual(place.hosts, [{ url: 'https://ghcr.io/v2', isNamed: false }])
  assert.equal(place.isKnown, false)
  const failing: HostsReader = { ...HOSTS_FILES, read: () => Promise.reject(new Error('a mistake')) }
  await assert.rejects(upstreamPlaceOf('ghcr.io', { certsDir: '/nowhere', mirrorUrl: MIRROR }, failing), /a mistake/)
})

test('upstreamPlaceOf: no registry is known by a certs directory that cannot be read, only by its own unreadable directory', async () => {
  await withTemporaryDirectory(async (directory) => {
    const certsDir = join(directory, 'certs.d')
    await writeFile(certsDir, 'a file')
    const node = { certsDir, mirrorUrl: MIRROR }
    const unknown = { hosts: [{ url: 'https://ghcr.io/v2', isNamed: false }], isKnown: false }
    assert.deepEqual(await upstreamPlaceOf('ghcr.io', node, HOSTS_FILES), unknown)
    for (const code of ['EACCES', 'EIO']) {
      const refuse = () => Promise.reject(Object.assign(new Error(code), { code }))
      const files: HostsReader = { ...HOSTS_FILES, read: refuse, real: refuse }
      assert.deepEqual(await upstreamPlaceOf('ghcr.io', node, files), unknown)
      const own: HostsReader = { ...files, real: async (path) => path }
      assert.deepEqual(await upstreamPlaceOf('ghcr.io', node, own), { ...unknown, isKnown: true })
    }
  })
})
