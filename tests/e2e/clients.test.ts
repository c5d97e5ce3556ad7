import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { blobFile, blobPath, layerFileName, manifestPath, REGISTRY_NAME, testCluster } from './harness/index.ts'

// Clients other than containerd get a manifest by its tag. While upstream answers, the mirror serves tags only with this setting.
const flags = { resolve: 'swarm' }
const cluster = await testCluster({
  nodes: [
    { name: 'a', flags },
    { name: 'b', flags },
  ],
  registry: true,
})
const { registry } = cluster
const [a, b] = [cluster.node('a'), cluster.node('b')]

const image = await registry.push(
  await cluster.makeImage({ seed: 'clients', layers: [70_000, 1 << 20] }),
  'team/app:v1',
)
const [layer] = image.own.layers
assert.ok(layer)
const content = await readFile(blobFile(image.layout, layer.digest))
const manifest = await readFile(blobFile(image.layout, image.target.digest))
await a.pull(image.reference)
await b.untilOffered(image)
await registry.daemon.stop()

/** How a client without `ns` names the image at a mirror's door. */
const AT_DOOR = `127.0.0.1:5000/${image.reference}`
const sha256 = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

for (const [node, source] of [
  [a, 'local'],
  [b, 'peer'],
] as const) {
  const blob = blobPath(image, layer.digest)

  describe(`clients: through a door whose content is ${source}`, () => {
    test('skopeo copies the whole image', async () => {
      const directory = await node.makeDirectory('skopeo')
      const options = ['--insecure-policy', 'copy', '--src-tls-verify=false', '--preserve-digests']
      await node.exec('skopeo', [...options, `docker://${AT_DOOR}`, `oci:${directory}:copy`])
      const index = JSON.parse(await readFile(join(directory, 'index.json'), 'utf8'))
      assert.equal(index.manifests[0].digest, image.target.digest)
      for (const digest of image.digests) assert.equal(sha256(await readFile(blobFile(directory, digest))), digest)
    })

    test("skopeo copies it as podman and CRI-O do, with the README's configuration", async () => {
      const directory = await node.makeDirectory('podman')
      const copy = async (mirror: string, target: string) => {
        const file = join(directory, `${target}.conf`)
        const registry = `[[registry]]\nprefix = "${REGISTRY_NAME}"\nlocation = "${REGISTRY_NAME}"\n`
        await writeFile(file, `${registry}[[registry.mirror]]\nlocation = "${mirror}"\ninsecure = true\n`)
        const options = ['--registries-conf', file, '--insecure-policy', 'copy', '--preserve-digests']
        await node.exec('skopeo', [...options, `docker://${image.reference}`, `oci:${directory}:${target}`])
      }
      await copy(`127.0.0.1:5000/${REGISTRY_NAME}`, 'named')
      for (const digest of image.digests) assert.equal(sha256(await readFile(blobFile(directory, digest))), digest)
      // The door guesses no registry when the path names none, and upstream is stopped.
      await assert.rejects(copy('127.0.0.1:5000', 'unnamed'))
    })

    test('oras pulls the layers', async () => {
      const directory = await node.makeDirectory('oras')
      await node.exec('oras', ['pull', '--plain-http', '--no-tty', '--output', directory, AT_DOOR])
      for (const [index, { digest }] of image.own.layers.entries()) {
        assert.equal(sha256(await readFile(join(directory, layerFileName(index)))), digest)
      }
    })

    test('curl gets a blob with every header that clients rely on', async () => {
      const got = await node.curl(blob)
      assert.equal(got.exitCode, 0)
      assert.equal(got.status, 200)
      assert.equal(sha256(got.body), layer.digest)
      assert.equal(got.headers.get('content-length'), String(layer.size))
      assert.equal(got.headers.get('docker-content-digest'), layer.digest)
      assert.equal(got.headers.get('etag'), `"${layer.digest}"`)
      assert.equal(got.headers.get('accept-ranges'), 'bytes')
      assert.equal(got.headers.get('x-swarmirror-source'), source)
    })

    test('curl gets the manifest by tag and by digest, and HEAD says the same', async () => {
      for (const path of [manifestPath(image, image.tag), manifestPath(image)]) {
        const got = await node.curl(path)
        const head = await node.curl(path, { method: 'HEAD' })
        assert.equal(got.status, 200)
        assert.deepEqual(got.body, manifest)
        assert.equal(head.status, 200)
        for (const name of ['content-type', 'content-length', 'docker-content-digest', 'etag', 'x-swarmirror-source']) {
          assert.equal(head.headers.get(name), got.headers.get(name), name)
        }
        assert.equal(head.headers.get('content-type'), image.target.mediaType)
        assert.equal(head.headers.get('content-length'), String(manifest.length))
        assert.equal(head.headers.get('docker-content-digest'), image.target.digest)
      }
    })

    const { size } = layer
    test('curl gets the part of a blob that it asks for', async () => {
      const got = await node.curl(blob, { headers: { range: 'bytes=100-4099' } })
      assert.equal(got.status, 206)
      assert.equal(got.headers.get('content-range'), `bytes 100-4099/${size}`)
      assert.equal(got.headers.get('content-length'), '4000')
      assert.deepEqual(got.body, content.subarray(100, 4100))
    })

    test('curl gets 416 for a part beyond the end', async () => {
      const got = await node.curl(blob, { headers: { range: `bytes=${size}-` } })
      assert.equal(got.status, 416)
      assert.equal(got.headers.get('content-range'), `bytes */${size}`)
    })
  })
}
