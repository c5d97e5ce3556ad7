import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { appendFile, mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../../../lib/observe/log.ts'
import { parseDigest } from '../../../../lib/oci/digest.ts'
import type { Key } from '../../../../lib/oci/key.ts'
import { FileSource } from '../../../../lib/platform/file-source.ts'
import { LayoutError, openLayoutStore } from '../../../../lib/store/layout/layout.ts'
import type { ContentStore } from '../../../../lib/store/store.ts'
import { storeConformance } from '../../../conformance/store.ts'
import { readBody } from '../../../fixtures/body.ts'
import {
  contentOf,
  type Image,
  makeImage,
  type NamedImage,
  withTemporaryDirectory,
  writeIndex,
  writeLayout,
} from '../../../fixtures/image.ts'
import { blobPath, heldKeys, NAME, never, withLayoutStore } from '../../../fixtures/layout.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'

/** A layout whose images come and go by name, as the conformance suite demands. */
async function makeFixture() {
  const opened = Promise.withResolvers<ContentStore>()
  const finish = Promise.withResolvers<void>()
  const images = new Map<string, NamedImage>()
  let dir = ''
  const lifetime = withTemporaryDirectory(async (made) => {
    dir = made
    await writeLayout(dir, [])
    const store = await openLayoutStore(dir, { log: silentLogger, settleTime: 20 })
    opened.resolve(store)
    await finish.promise
    await store.close()
  })
  lifetime.catch(opened.reject)
  return {
    store: await opened.promise,
    async put(image: Image, name: string) {
      images.set(name, { image, names: [name] })
      await writeLayout(dir, [...images.values()])
    },
    async remove(image: Image, name: string) {
      images.delete(name)
      await writeIndex(dir, [...images.values()])
      for (const { descriptor } of image.contents) await rm(blobPath(dir, descriptor.digest))
    },
    async close() {
      finish.resolve()
      await lifetime
    },
  }
}

storeConformance('layout store', makeFixture)

for (const [what, spoil, problem] of [
  ['no oci-layout', (dir) => rm(join(dir, 'oci-layout')), /oci-layout: no such file; expected/],
  ['no index.json', (dir) => rm(join(dir, 'index.json')), /index\.json: no such file; expected/],
  ['half of an index.json', (dir) => truncate(join(dir, 'index.json'), 40), /index\.json: not JSON .*; expected/],
  [
    'an index.json that is a list',
    (dir) => writeFile(join(dir, 'index.json'), '[]'),
    /schemaVersion is undefined; expected/,
  ],
  [
    'an index.json of schema 1',
    (dir) => writeFile(join(dir, 'index.json'), '{"schemaVersion":1}'),
    /schemaVersion is 1/,
  ],
  [
    'an entry without a proper digest',
    (dir) =>
      writeFile(
        join(dir, 'index.json'),
        '{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"md5:00","size":1}]}',
      ),
    /index\.json: .*manifests\[0\]\.digest.*md5:00/,
  ],
  [
    'a layout of another version',
    (dir) => writeFile(join(dir, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}'),
    /oci-layout: imageLayoutVersion is "2\.0\.0"; expected .*1\.0\.0/,
  ],
  [
    'an index.json that is a directory',
    async (dir) => {
      await rm(join(dir, 'index.json'))
      await mkdir(join(dir, 'index.json'))
    },
    /index\.json: not a file/,
  ],
  ['no directory', (dir) => rm(dir, { recursive: true }), /no such directory; expected an OCI image layout/],
] satisfies [string, (dir: string) => Promise<unknown>, RegExp][]) {
  test(`openLayoutStore refuses ${what} and says what is expected`, async () => {
    await withTemporaryDirectory(async (parent) => {
      const dir = join(parent, 'layout')
      await writeLayout(dir, [{ image: makeImage(), names: [NAME] }])
      await spoil(dir)
      await assert.rejects(openLayoutStore(dir, { log: silentLogger }), (error: unknown) => {
        assert.ok(error instanceof LayoutError)
        assert.ok(error.message.startsWith(dir))
        assert.match(error.message, problem)
        return true
      })
    })
  })
}

test('layout store serves neither blobs that are not reachable from index.json nor announces them', async () => {
  const [listed, stray] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  const prepare = async (dir: string) => {
    await writeLayout(dir, [{ image: listed }, { image: stray }])
    await writeIndex(dir, [{ image: listed }])
  }
  await withLayoutStore(prepare, async (store) => {
    assert.deepEqual(
      new Set(await heldKeys(store)),
      new Set(listed.contents.map((content) => content.descriptor.digest as string)),
    )
    for (const { descriptor } of stray.contents) {
      assert.equal(await store.describe(descriptor.digest, never), undefined)
      assert.equal(await store.open(descriptor.digest, undefined, never), undefined)
    }
  })
})

test('layout store serves no blob whose size differs from its descriptor, from start on and from then on', async () => {
  const image = makeImage({ layers: 2 })
  const [, , longer, shorter] = image.contents.map((content) => content.descriptor.digest)
  assert.ok(longer !== undefined && shorter !== undefined)
  const { log, lines } = createLogRecorder()
  const prepare = async (dir: string) => {
    await writeLayout(dir, [{ image, names: [NAME] }])
    await appendFile(blobPath(dir, longer), 'x')
  }
  await withLayoutStore(
    prepare,
    async (store, dir) => {
      assert.equal(await store.describe(longer, never), undefined)
      assert.equal(await store.open(longer, undefined, never), undefined)
      assert.ok(!(await heldKeys(store)).includes(longer as string as Key))
      const line = lines.find(({ fields }) => fields.digest === longer)
      assert.match(String(line?.fields.problem), /5633 bytes are held, the descriptor says 5632/)

      assert.notEqual(await store.describe(shorter, never), undefined)
      await truncate(blobPath(dir, shorter), 10)
      assert.equal(await store.describe(shorter, never), undefined)
      assert.equal(await store.open(shorter, undefined, never), undefined)
    },
    { log },
  )
})

test('layout store follows no link that leaves the directory', async () => {
  const image = makeImage({ layers: 1 })
  const layer = image.contents.at(-1) ?? assert.fail()
  const { log, lines } = createLogRecorder()
  await withTemporaryDirectory(async (outside) => {
    await writeFile(join(outside, 'secret'), layer.bytes)
    const prepare = async (dir: string) => {
      await writeLayout(dir, [{ image, names: [NAME] }])
      await rm(blobPath(dir, layer.descriptor.digest))
      await symlink(join(outside, 'secret'), blobPath(dir, layer.descriptor.digest))
    }
    await withLayoutStore(
      prepare,
      async (store) => {
        assert.equal(await store.describe(layer.descriptor.digest, never), undefined)
        assert.equal(await store.open(layer.descriptor.digest, undefined, never), undefined)
        assert.ok(lines.some(({ event }) => event === 'layout blob left out: it links to a file outside of the layout'))
      },
      { log },
    )
  })
})

test('layout store follows a link that stays inside, to its real path', async () => {
  const image = makeImage({ layers: 1 })
  const layer = image.contents.at(-1) ?? assert.fail()
  const prepare = async (dir: string) => {
    await writeLayout(dir, [{ image, names: [NAME] }])
    await rename(blobPath(dir, layer.descriptor.digest), join(dir, 'elsewhere'))
    await symlink('../../elsewhere', blobPath(dir, layer.descriptor.digest))
  }
  await withLayoutStore(prepare, async (store) => {
    const body = (await store.open(layer.descriptor.digest, undefined, never)) ?? assert.fail('not held')
    assert.ok(body instanceof FileSource && body.path.endsWith('/elsewhere'))
    assert.deepEqual(Buffer.from(await readBody(body)), Buffer.from(layer.bytes))
  })
})

test('layout store reads manifests of blobs/sha512', async () => {
  const image = makeImage({ layers: 1 })
  const manifest = image.contents[0] ?? assert.fail()
  const digest = parseDigest(`sha512:${createHash('sha512').update(manifest.bytes).digest('hex')}`)
  const target = { ...manifest.descriptor, digest }
  const prepare = (dir: string) =>
    writeLayout(dir, [
      { image: { target, contents: [{ descriptor: target, bytes: manifest.bytes }, ...image.contents.slice(1)] } },
    ])
  await withLayoutStore(prepare, async (store) => {
    assert.deepEqual(await store.describe(digest, never), target)
    for (const { descriptor } of image.contents.slice(1)) {
      assert.deepEqual(await store.describe(descriptor.digest, never), descriptor)
    }
  })
})

test('layout store serves a manifest that cannot be read as one, but nothing below it', async () => {
  const odd = contentOf(
    'application/vnd.oci.image.manifest.v1+json',
    new TextEncoder().encode('{"config":{"digest":7}}'),
  )
  const { log, lines } = createLogRecorder()
  await withLayoutStore(
    (dir) => writeLayout(dir, [{ image: { target: odd.descriptor, contents: [odd] }, names: [NAME] }]),
    async (store) => {
      assert.deepEqual(await store.describe(odd.descriptor.digest, never), odd.descriptor)
      assert.ok(lines.some(({ fields }) => /config\.mediaType is not a media type/.test(String(fields.problem))))
    },
    { log },
  )
})

test('layout store refuses a range beyond the content, and an aborted signal', async () => {
  const image = makeImage()
  await withLayoutStore(
    (dir) => writeLayout(dir, [{ image }]),
    async (store) => {
      const { digest, size } = image.target
      await assert.rejects(store.open(digest, { start: 0, end: size }, never), RangeError)
      await assert.rejects(store.open(digest, { start: 2, end: 1 }, never), RangeError)
      await assert.rejects(store.describe(digest, AbortSignal.abort()), { name: 'AbortError' })
    },
  )
})
