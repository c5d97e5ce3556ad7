import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeAuthorityCertificate } from '../../lib/peers/certificate.ts'
import { MAIN } from '../fixtures/process.ts'
import { testCluster } from './harness/index.ts'

const cluster = await testCluster({ nodes: ['a', { name: 'b', start: ['containerd', 'mirror'] }], registry: true })
const a = cluster.node('a')
const b = cluster.node('b')
const REGISTRY = 'registry.test'

/** Runs `swarmirror hosts` on node b, as a person or an init container would. */
function hosts(...flags: string[]): Promise<string> {
  const options = ['--certs-dir', b.paths.certs, '--registries', REGISTRY]
  return b.exec(process.execPath, [MAIN.pathname, 'hosts', ...options, ...flags])
}

test('hosts makes containerd pull through the mirror, and --remove makes it pull from upstream again', async () => {
  const path = join(b.paths.certs, REGISTRY, 'hosts.toml')
  // A company could have this: its registry, with a certificate in a file beside it.
  const original = [
    `# The company's registry`,
    `server = ${JSON.stringify(cluster.registry.url)}`,
    '',
    `[host.${JSON.stringify(cluster.registry.url)}]`,
    '  capabilities = ["pull", "resolve"]',
    '  ca = "company.crt"',
  ].join('\n')
  await mkdir(join(b.paths.certs, REGISTRY), { recursive: true })
  await writeFile(path, original)
  await writeFile(join(b.paths.certs, REGISTRY, 'company.crt'), companyCertificate())

  const made = await cluster.makeImage({ seed: 'hosts', layers: [100_000, 1 << 20] })
  const image = await cluster.registry.push(made, 'team/hosts:v1')
  await a.writeHosts(REGISTRY, { server: cluster.registry.url, hosts: [{ url: cluster.registry.url }] })
  await a.pull(image.reference)
  await a.untilOffered(image)
  await b.untilOffered(image)

  assert.match(await hosts(), /the mirror comes first now/)
  assert.match(await hosts(), /nothing to change: the mirror is first/)
  const mirrored = await cluster.registry.requestsDuring(() => b.pull(image.reference))
  assert.deepEqual(
    mirrored.map(({ method, target }) => `${method} ${target.split('?', 1)}`),
    ['HEAD /v2/team/hosts/manifests/v1'],
    'upstream was asked for more than the tag although the mirror has everything',
  )

  // Only upstream has this image: the company's table, with its certificate, still works behind the mirror.
  const other = await cluster.registry.push(
    await cluster.makeImage({ seed: 'hosts-2', layers: [50_000] }),
    'team/other:v1',
  )
  const upstream = await cluster.registry.requestsDuring(() => b.pull(other.reference))
  assert.ok(upstream.length > 0)

  assert.match(await hosts('--remove'), /the mirror is taken out, and the rest is as it was/)
  assert.equal(await readFile(path, 'utf8'), original)
  await b.removeImage(image.reference)
  const direct = await cluster.registry.requestsDuring(() => b.pull(image.reference))
  assert.ok(direct.length > 0, 'upstream was not asked after --remove')
})

/** Any certificate that containerd can read: it loads it for every pull, whatever the URL. */
function companyCertificate(): string {
  return makeAuthorityCertificate(generateKeyPairSync('ec', { namedCurve: 'P-256' }))
}
