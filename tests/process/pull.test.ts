import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { test } from 'node:test'
import { isManifestMediaType } from '../../lib/oci/media-type.ts'
import {
  DOCKER,
  digestOf,
  type Image,
  makeImage,
  makeIndex,
  type NamedImage,
  writeIndex,
  writeLayout,
} from '../fixtures/image.ts'
import { blobPath } from '../fixtures/layout.ts'
import { type TestMirror, withMirrors } from '../fixtures/mirror.ts'
import { waitFor } from '../fixtures/wait.ts'

const NS = 'ns=registry.example'
const named = (image: Image, ...names: string[]): NamedImage => ({
  image,
  names: names.map((name) => `registry.example/${name}`),
})

function pathOf(repository: string, { mediaType, digest }: Image['target']): string {
  return `/v2/${repository}/${isManifestMediaType(mediaType) ? 'manifests' : 'blobs'}/${digest}?${NS}`
}

async function statusOf(mirror: TestMirror, path: string): Promise<number> {
  const response = await mirror.get(path)
  await response.body?.cancel()
  return response.status
}

/** Pulls a tag and all contents of the image through a mirror, and checks every byte and its source. */
async function pull(mirror: TestMirror, repository: string, tag: string, image: Image, source: string): Promise<void> {
  const resolved = await mirror.get(`/v2/${repository}/manifests/${tag}?${NS}`, { method: 'HEAD' })
  assert.equal(resolved.status, 200)
  assert.equal(resolved.headers.get('docker-content-digest'), image.target.digest)
  for (const { descriptor } of image.contents) {
    const response = await mirror.get(pathOf(repository, descriptor))
    assert.equal(response.status, 200)
    assert.equal(response.headers.get('content-type'), descriptor.mediaType)
    assert.equal(response.headers.get('x-swarmirror-source'), source)
    const bytes = new Uint8Array(await response.arrayBuffer())
    assert.equal(bytes.length, descriptor.size)
    assert.equal(digestOf(bytes), descriptor.digest)
  }
}

async function untilFound(mirror: TestMirror, path: string, status = 200): Promise<void> {
  await waitFor(`${status} for ${path}`, async () => (await statusOf(mirror, path)) === status)
}

test('mirror: the others serve whatever one of three has, by tag and by digest', async () => {
  const [one, two] = [
    makeIndex([makeImage({ seed: 1 }), makeImage({ seed: 2 })]),
    makeImage({ seed: 3, mediaTypes: DOCKER }),
  ]
  await withMirrors(async (start) => {
    const a = await start({ images: [named(one, 'team/one:1')] })
    const b = await start({ images: [named(two, 'team/two:1', 'team/two:latest')], bootstrap: [a] })
    const c = await start({ bootstrap: [a] })
    for (const [mirror, path] of [
      [c, `/v2/team/one/manifests/1?${NS}`],
      [c, `/v2/team/two/manifests/latest?${NS}`],
      [b, `/v2/team/one/manifests/1?${NS}`],
      [a, `/v2/team/two/manifests/1?${NS}`],
    ] satisfies [TestMirror, string][]) {
      await untilFound(mirror, path)
    }
    await pull(a, 'team/one', '1', one, 'local')
    await pull(c, 'team/one', '1', one, 'peer')
    await pull(c, 'team/two', 'latest', two, 'peer')
    await pull(b, 'team/one', '1', one, 'peer')
    await pull(a, 'team/two', '1', two, 'peer')
    assert.equal(await statusOf(c, `/v2/team/one/manifests/2?${NS}`), 404)
    for (const mirror of [a, b, c]) assert.equal(await mirror.end(), 0)
  })
})

test('mirror: others find content that comes to a layout, and no longer find content that goes', async () => {
  const [first, second] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  await withMirrors(async (start) => {
    const a = await start({ images: [named(first, 'team/app:1')] })
    const b = await start({ bootstrap: [a] })
    const [oldTag, newTag] = [`/v2/team/app/manifests/1?${NS}`, `/v2/team/app/manifests/2?${NS}`]
    await untilFound(b, oldTag)
    assert.equal(await statusOf(b, newTag), 404)

    await writeLayout(a.layout, [named(first, 'team/app:1'), named(second, 'team/app:2')])
    await untilFound(b, newTag)
    await pull(b, 'team/app', '2', second, 'peer')

    await writeIndex(a.layout, [named(second, 'team/app:2')])
    for (const { descriptor } of first.contents) await rm(blobPath(a.layout, descriptor.digest))
    await untilFound(b, oldTag, 404)
    for (const { descriptor } of first.contents) assert.equal(await statusOf(b, pathOf('team/app', descriptor)), 404)
    await pull(b, 'team/app', '2', second, 'peer')
  })
})

test('mirror: with --resolve upstream a tag is never resolved here, nor announced, but digests are', async () => {
  const image = makeImage()
  await withMirrors(async (start) => {
    const silent = await start({ images: [named(image, 'team/app:1')], flags: ['--resolve', 'upstream'] })
    const other = await start({ bootstrap: [silent] })
    const layer = image.contents.at(-1) ?? assert.fail('no layer')
    await untilFound(other, pathOf('team/app', layer.descriptor))
    for (const mirror of [silent, other]) {
      assert.equal(await statusOf(mirror, `/v2/team/app/manifests/1?${NS}`), 404)
      assert.equal(await statusOf(mirror, pathOf('team/app', image.target)), 200)
    }
  })
})

test('mirror: the holder of excluded content neither serves nor announces it', async () => {
  const [shown, hidden] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  await withMirrors(async (start) => {
    const a = await start({
      images: [named(shown, 'team/shown:1'), named(hidden, 'team/hidden:1')],
      flags: ['--exclude', '^registry\\.example/team/hidden:'],
    })
    const b = await start({ bootstrap: [a] })
    await untilFound(b, `/v2/team/shown/manifests/1?${NS}`)
    for (const mirror of [a, b]) {
      assert.equal(await statusOf(mirror, `/v2/team/hidden/manifests/1?${NS}`), 404)
      for (const { descriptor } of hidden.contents) {
        assert.equal(await statusOf(mirror, pathOf('team/hidden', descriptor)), 404)
      }
    }
    await pull(b, 'team/shown', '1', shown, 'peer')
  })
})

test('mirror: if nobody has the content, the answer is a 404 in about the time of a lookup', async () => {
  await withMirrors(async (start) => {
    const a = await start()
    const b = await start({ bootstrap: [a] })
    const before = performance.now()
    const response = await b.get(`/v2/team/app/manifests/1?${NS}`)
    assert.equal(response.status, 404)
    const body = (await response.json()) as { errors: { code: string }[] }
    assert.equal(body.errors[0]?.code, 'MANIFEST_UNKNOWN')
    // Lookups may take a second here; the rest is a reserve for a busy machine.
    assert.ok(performance.now() - before < 10_000)
  })
})
