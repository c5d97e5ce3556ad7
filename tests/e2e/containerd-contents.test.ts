/** Content other than an image of one platform: the store offers as much of it as containerd has. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type Descriptor, parseDigest } from '../../lib/oci/digest.ts'
import { digestKey, type Key } from '../../lib/oci/key.ts'
import { childrenOf } from '../../lib/oci/manifest.ts'
import { OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST } from '../../lib/oci/media-type.ts'
import { readBody } from '../fixtures/body.ts'
import { beginPull, startContainerd } from '../fixtures/containerd.ts'
import { holdsAll, type Watched, watchStore } from '../fixtures/containerd-store.ts'
import { type Content, contentOf, type Image, makeImage, makeIndex, withTemporaryDirectory } from '../fixtures/image.ts'
import { blobPath } from '../fixtures/layout.ts'
import { startRegistry } from '../fixtures/registry.ts'
import { waitFor, within } from '../fixtures/wait.ts'
import { run } from './harness/command.ts'
import { byMajor } from './harness/version.ts'

const containerd = await startContainerd()
const registry = await startRegistry()
after(async () => {
  await registry.close()
  await containerd.close()
})

const never = new AbortController().signal
const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
const json = (mediaType: string, value: object) => contentOf(mediaType, text({ schemaVersion: 2, mediaType, ...value }))

/** Pulls by tag or digest, without unpacking, and returns the reference. */
async function fetchImage(
  namespace: string,
  image: Image,
  tag: string,
  ...options: readonly string[]
): Promise<string> {
  registry.put(image, tag)
  const reference = `${registry.host}/team/app${tag.includes(':') ? '@' : ':'}${tag}`
  await containerd.ctr(namespace, ['content', 'fetch', '--plain-http', ...options, reference])
  return reference
}

/** Checks that exactly these are held, each with its media type and its bytes, and the names. */
async function checkHeld(
  { store, held }: Watched,
  contents: readonly Content[],
  ...references: readonly string[]
): Promise<void> {
  const keys = [...contents.map(({ descriptor }) => digestKey(descriptor.digest)), ...(references as Key[])]
  await waitFor('everything is held', () => holdsAll(held, keys))
  assert.deepEqual(new Set(held), new Set(keys))
  for (const { descriptor, bytes } of contents) {
    assert.deepEqual(await store.describe(descriptor.digest, never), descriptor)
    const body = (await store.open(descriptor.digest, undefined, never)) ?? assert.fail('not held')
    assert.deepEqual(Buffer.from(await readBody(body)), Buffer.from(bytes))
  }
}

async function checkAbsent({ store }: Watched, contents: readonly Content[]): Promise<void> {
  for (const { descriptor } of contents) {
    assert.equal(await store.describe(descriptor.digest, never), undefined)
    assert.equal(await store.open(descriptor.digest, undefined, never), undefined)
  }
}

/** An image, and an attestation of it as BuildKit writes one: a manifest for no platform, with statements as its layers. */
function makeAttested(seed: number) {
  const image = makeImage({ seed })
  const statement = contentOf(
    'application/vnd.in-toto+json',
    text({ _type: 'https://in-toto.io/Statement/v0.1', seed }),
  )
  const config = contentOf(OCI_CONFIG, text({ architecture: 'unknown', os: 'unknown', seed }))
  const manifest = json(OCI_MANIFEST, { config: config.descriptor, layers: [statement.descriptor] })
  const index = json(OCI_INDEX, {
    manifests: [
      { ...image.target, platform: { os: 'linux', architecture: 'amd64' } },
      {
        ...manifest.descriptor,
        platform: { os: 'unknown', architecture: 'unknown' },
        annotations: {
          'vnd.docker.reference.type': 'attestation-manifest',
          'vnd.docker.reference.digest': image.target.digest,
        },
      },
    ],
  })
  const attestation = [manifest, config, statement]
  return {
    index,
    image,
    attestation,
    whole: { target: index.descriptor, contents: [index, ...image.contents, ...attestation] },
  }
}

test('the store offers only what containerd has fetched of an attestation', () =>
  watchStore(containerd, 'attested', async (watched) => {
    const { whole, index, image, attestation } = makeAttested(80)
    const reference = await fetchImage('attested', whole, 'attested', '--platform', 'linux/amd64')
    // When it pulls one platform, containerd 1 skips the attestation; containerd 2 fetches its manifest and config, but no statement.
    const fetched = byMajor({ 1: 0, 2: 2 })
    await checkHeld(watched, [index, ...image.contents, ...attestation.slice(0, fetched)], reference)
    await checkAbsent(watched, attestation.slice(fetched))
  }))

test('an attestation that containerd has is offered with its image', () =>
  watchStore(containerd, 'attestation', async (watched) => {
    const { whole } = makeAttested(81)
    const reference = await fetchImage('attestation', whole, 'attestation', '--all-platforms')
    await checkHeld(watched, whole.contents, reference)
  }))

test('artifacts of ORAS are offered, and what refers to them', () =>
  withTemporaryDirectory((directory) =>
    watchStore(containerd, 'artifacts', async (watched) => {
      const layout = join(directory, 'layout')
      const [chart, sbom] = [join(directory, 'chart'), join(directory, 'sbom')]
      await writeFile(chart, 'a chart')
      await writeFile(sbom, '{"packages":[]}')
      const options = (type: string) => ['--oci-layout', '--disable-path-validation', '--artifact-type', type]
      await run('oras', ['push', ...options('application/x.chart'), `${layout}:1`, `${chart}:application/x.tar`])
      await run('oras', ['attach', ...options('application/x.sbom'), `${layout}:1`, `${sbom}:application/x.json`])
      const [artifact, referrer] = await imagesOf(layout)
      assert.ok(artifact !== undefined && referrer !== undefined)
      // By its digest, as nothing else names it. Its subject is no part of it, and does not come with it.
      const pinned = await fetchImage('artifacts', referrer, referrer.target.digest)
      await checkHeld(watched, referrer.contents)
      await checkAbsent(watched, artifact.contents.slice(0, 1))
      assert.equal(pinned.includes('@'), true)
      const reference = await fetchImage('artifacts', artifact, 'artifact')
      const all = new Map([...artifact.contents, ...referrer.contents].map((each) => [each.descriptor.digest, each]))
      await checkHeld(watched, [...all.values()], reference)
    }),
  ))

/** The images of a layout, in the order of its index. */
async function imagesOf(layout: string): Promise<Image[]> {
  const content = async (descriptor: Descriptor) => ({
    descriptor: { mediaType: descriptor.mediaType, digest: descriptor.digest, size: descriptor.size },
    bytes: await readFile(blobPath(layout, descriptor.digest)),
  })
  const { manifests }: { manifests: readonly Descriptor[] } = JSON.parse(
    await readFile(join(layout, 'index.json'), 'utf8'),
  )
  return await Promise.all(
    manifests.map(async (target) => {
      const top = await content(target)
      const children = await Promise.all(childrenOf(top.bytes, target.mediaType).map(content))
      return { target: top.descriptor, contents: [top, ...children] }
    }),
  )
}

test('layers are offered whatever their type: EROFS images, WASM modules, models', () =>
  watchStore(containerd, 'types', async (watched) => {
    const config = contentOf(OCI_CONFIG, text({ os: 'linux', architecture: 'amd64' }))
    const layers = [
      'application/vnd.erofs.layer.v1',
      'application/wasm',
      'application/vnd.cncf.model.weight.v1.raw',
    ].map((type, seed) => contentOf(type, new Uint8Array(5_000).fill(seed + 1)))
    const manifest = json(OCI_MANIFEST, {
      config: config.descriptor,
      layers: layers.map(({ descriptor }) => descriptor),
    })
    const image = { target: manifest.descriptor, contents: [manifest, config, ...layers] }
    await checkHeld(watched, image.contents, await fetchImage('types', image, 'types'))
  }))

test('layers that a snapshotter has not fetched are not offered, although the image names them', () =>
  watchStore(containerd, 'lazy', async (watched) => {
    const index = makeIndex([makeImage({ seed: 82 })])
    const [top, manifest, config, ...layers] = index.contents
    assert.ok(top !== undefined && manifest !== undefined && config !== undefined && layers.length > 0)
    // Lazy snapshotters pull like this: containerd labels the manifest with layers that it never gets.
    const reference = await fetchImage('lazy', index, 'lazy', '--metadata-only')
    await checkHeld(watched, [top, manifest, config], reference)
    await checkAbsent(watched, layers)
  }))

test('an image with a SHA-512 digest is not offered, since containerd does not accept it', () =>
  watchStore(containerd, 'sha512', async (watched) => {
    const bytes = new Uint8Array(5_000).fill(9)
    const digest = parseDigest(`sha512:${createHash('sha512').update(bytes).digest('hex')}`)
    const layer = { descriptor: { mediaType: OCI_LAYER, digest, size: bytes.length }, bytes }
    const config = contentOf(OCI_CONFIG, text({ os: 'linux', architecture: 'amd64', sha512: true }))
    const manifest = json(OCI_MANIFEST, { config: config.descriptor, layers: [layer.descriptor] })
    const image = { target: manifest.descriptor, contents: [manifest, config, layer] }
    watched.store.expect?.(digest)
    await assert.rejects(fetchImage('sha512', image, 'sha512'), /unexpected commit digest sha256:/)
    await checkAbsent(watched, [layer])
    // The content of the failed pull is collected; it never belonged to an image.
    for (const { descriptor } of [manifest, config]) {
      await waitFor('it is gone', async () => (await watched.store.describe(descriptor.digest, never)) === undefined)
    }
    assert.deepEqual([...watched.held], [])
  }))

test('content that another namespace has or receives is not offered before this one has it', () =>
  watchStore(containerd, 'mine', async (watched) => {
    const image = makeImage({ seed: 83 })
    await fetchImage('theirs', image, 'theirs')
    await checkAbsent(watched, image.contents)
    const layer = contentOf(OCI_LAYER, new Uint8Array(3_000_000).fill(5))
    const pull = beginPull(containerd, 'theirs', registry, layer)
    await pull.write(1)
    await watchStore(containerd, 'theirs', async ({ store }) => {
      const arrival = await waitFor('it arrives there', () => store.arriving(layer.descriptor.digest))
      await within('its beginning', arrival.grown(0, never))
      assert.equal(watched.store.arriving(layer.descriptor.digest), undefined)
      arrival.close()
    })
    await pull.commit()
    await checkAbsent(watched, [layer])
    // Its files are there, so this namespace only needs to name them.
    const reference = await fetchImage('mine', image, 'mine')
    await checkHeld(watched, image.contents, reference)
  }))
