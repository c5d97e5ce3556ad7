import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Descriptor, Digest } from '../../../lib/oci/digest.ts'
import { OCI_INDEX, OCI_LAYER, OCI_MANIFEST } from '../../../lib/oci/media-type.ts'
import { type WalkOptions, type WalkProblem, type WalkSource, walkHeld } from '../../../lib/store/walk.ts'
import { type Content, contentOf, type Image, makeImage, makeIndex } from '../../fixtures/image.ts'

/** A source of these contents that counts the questions. */
function sourceOf(contents: readonly Content[]) {
  const bytes = new Map(contents.map((content) => [content.descriptor.digest, content.bytes]))
  const described: Digest[] = []
  const read: Digest[] = []
  const source: WalkSource = {
    async describe(digest) {
      described.push(digest)
      return bytes.get(digest)?.length
    },
    async read(digest) {
      read.push(digest)
      return bytes.get(digest)
    },
  }
  return { source, bytes, described, read }
}

async function walk(
  targets: Iterable<Descriptor>,
  source: WalkSource,
  options: Partial<WalkOptions> = {},
): Promise<{ held: Descriptor[]; problems: WalkProblem[] }> {
  const held: Descriptor[] = []
  const problems: WalkProblem[] = []
  const { signal } = new AbortController()
  for await (const descriptor of walkHeld(targets, source, {
    signal,
    onProblem: (p) => problems.push(p),
    ...options,
  })) {
    held.push(descriptor)
  }
  return { held, problems }
}

const descriptorsOf = (image: Image) => image.contents.map((content) => content.descriptor)
const json = (mediaType: string, value: unknown) =>
  contentOf(mediaType, new TextEncoder().encode(JSON.stringify(value)))
const indexOf = (...manifests: readonly Descriptor[]) => json(OCI_INDEX, { schemaVersion: 2, manifests })

const arm = makeImage({ seed: 2, platform: { os: 'linux', architecture: 'arm64' } })
const index = makeIndex([makeImage({ seed: 1 }), arm])

test('walkHeld gives everything below an index once, parents before children', async () => {
  const { source, described, read } = sourceOf(index.contents)
  const { held, problems } = await walk([index.target, index.target, arm.target], source)
  assert.deepEqual(new Set(held), new Set(descriptorsOf(index)))
  assert.equal(held.length, index.contents.length)
  assert.deepEqual(held[0], index.target)
  assert.deepEqual(problems, [])
  // Each digest is asked for once, and only manifests are read.
  assert.equal(described.length, index.contents.length)
  assert.equal(read.length, 3)
})

test('walkHeld leaves out what is absent, and what only that leads to, without a problem', async () => {
  const { source, bytes } = sourceOf(index.contents)
  bytes.delete(arm.target.digest)
  const { held, problems } = await walk([index.target], source)
  const below = new Set(descriptorsOf(arm).map(({ digest }) => digest))
  assert.deepEqual(new Set(held), new Set(descriptorsOf(index).filter(({ digest }) => !below.has(digest))))
  assert.deepEqual(problems, [])
})

test('walkHeld gives exactly what is there, whatever is missing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.subarray([...index.contents]), async (present) => {
      const { source } = sourceOf(present)
      const { held } = await walk([index.target], source)
      const there = new Set(present.map((content) => content.descriptor.digest))
      const reachable = new Set<Digest>()
      if (there.has(index.target.digest)) {
        reachable.add(index.target.digest)
        for (const image of [makeImage({ seed: 1 }), arm]) {
          if (!there.has(image.target.digest)) continue
          for (const { digest } of descriptorsOf(image)) if (there.has(digest)) reachable.add(digest)
        }
      }
      assert.deepEqual(new Set(held.map(({ digest }) => digest)), reachable)
    }),
  )
})

test('walkHeld leaves out and reports content of another size, and takes it from a descriptor that is right', async () => {
  const layer = contentOf(OCI_LAYER, new Uint8Array(10))
  const wrong = { ...layer.descriptor, size: 11 }
  const { source } = sourceOf([layer])
  const { held, problems } = await walk([wrong, layer.descriptor], source)
  assert.deepEqual(held, [layer.descriptor])
  assert.deepEqual(problems, [{ descriptor: wrong, problem: '10 bytes are held, the descriptor says 11' }])
})

test('walkHeld leaves out and reports a manifest whose bytes do not match its digest', async () => {
  const { source, bytes } = sourceOf(index.contents)
  const broken = (bytes.get(index.target.digest) ?? assert.fail()).slice()
  broken[20] = 0
  bytes.set(index.target.digest, broken)
  const { held, problems } = await walk([index.target], source)
  assert.deepEqual(held, [])
  assert.deepEqual(problems, [{ descriptor: index.target, problem: 'the bytes do not match the digest' }])
})

test('walkHeld gives but does not follow a manifest that cannot be read, and reports why', async () => {
  const odd = json(OCI_MANIFEST, { schemaVersion: 2, config: { mediaType: 'a/b', digest: 'sha256:no', size: 1 } })
  const { held, problems } = await walk([odd.descriptor], sourceOf([odd]).source)
  assert.deepEqual(held, [odd.descriptor])
  assert.match(problems[0]?.problem ?? '', /config\.digest/)
})

test('walkHeld does not read a manifest that is too large to be one', async () => {
  const target = { ...index.target, size: 5 * 1024 * 1024 }
  const source: WalkSource = { describe: async () => target.size, read: () => assert.fail('read') }
  const { held, problems } = await walk([target], source)
  assert.deepEqual(held, [])
  assert.match(problems[0]?.problem ?? '', /a manifest of 5242880 bytes, at most 4194304/)
})

test('walkHeld gives the media type of a manifest to what another parent calls a blob', async () => {
  const image = makeImage({ layers: 1 })
  const asBlob = { ...image.target, mediaType: OCI_LAYER }
  const { source } = sourceOf(image.contents)
  const first = await walk([asBlob, image.target], source)
  assert.deepEqual(first.held.slice(0, 2), [asBlob, image.target])
  assert.equal(first.held.length, image.contents.length + 1)
  const second = await walk([image.target, asBlob], source)
  assert.deepEqual(second.held, descriptorsOf(image))
})

for (const layerSize of [100, 5_000_000]) {
  test(`walkHeld gives a layer of ${layerSize} bytes of one image although another calls it a manifest`, async () => {
    const image = makeImage({ layers: 1, layerSize })
    const layer = image.contents.find(({ descriptor }) => descriptor.mediaType === OCI_LAYER) ?? assert.fail()
    const liar = indexOf({ ...layer.descriptor, mediaType: OCI_MANIFEST })
    const { source } = sourceOf([...image.contents, liar])
    for (const targets of [
      [image.target, liar.descriptor, image.target],
      [liar.descriptor, image.target, liar.descriptor],
    ]) {
      const { held, problems } = await walk(targets, source)
      const last = new Map(held.map((descriptor) => [descriptor.digest, descriptor]))
      assert.deepEqual(new Set(last.values()), new Set([...descriptorsOf(image), liar.descriptor]))
      assert.equal(problems.length, 1)
    }
  })
}

test('walkHeld comes out of a cycle, which only a source that lies can make', async () => {
  // No index can contain its own digest, so the walk must notice from the bytes.
  const real = indexOf()
  const liar = indexOf({ ...real.descriptor })
  const source: WalkSource = { describe: async () => real.descriptor.size, read: async () => liar.bytes }
  const { held, problems } = await walk([real.descriptor], source)
  assert.deepEqual(held, [])
  assert.equal(problems.length, 1)
})

test('walkHeld follows no deeper than its limit', async () => {
  const chain = [indexOf()]
  for (let depth = 0; depth < 5; depth++) chain.unshift(indexOf(chain[0]?.descriptor ?? assert.fail()))
  const target = chain[0]?.descriptor ?? assert.fail()
  const all = await walk([target], sourceOf(chain).source)
  assert.equal(all.held.length, chain.length)
  const some = await walk([target], sourceOf(chain).source, { depthLimit: 3 })
  assert.equal(some.held.length, 4)
  assert.deepEqual(
    some.problems.map(({ problem }) => problem),
    ['nested deeper than 3, not followed'],
  )
})

test('walkHeld follows no wider than its limit, for each image anew', async () => {
  const children = Array.from({ length: 10 }, (_, at) => contentOf(OCI_LAYER, new Uint8Array([at])))
  const one = indexOf(...children.map((child) => child.descriptor))
  const two = indexOf(...children.slice(0, 5).map((child) => child.descriptor))
  const { source } = sourceOf([one, two, ...children])
  const { held, problems } = await walk([one.descriptor, two.descriptor], source, { widthLimit: 8 })
  assert.equal(held.length, 1 + 1 + 5)
  assert.deepEqual(problems, [
    { descriptor: one.descriptor, problem: 'more than 8 descriptors below one image, not followed' },
  ])
})

test('walkHeld ends with the reason of a signal that aborts', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const { source, described } = sourceOf(index.contents)
  const walked = (async () => {
    for await (const _ of walkHeld([index.target], source, { signal: controller.signal })) controller.abort(reason)
  })()
  await assert.rejects(walked, reason)
  assert.equal(described.length, 1)
})

test('walkHeld throws what its source throws', async () => {
  const failure = new Error('the store is away')
  const source: WalkSource = { describe: () => Promise.reject(failure), read: () => Promise.reject(failure) }
  await assert.rejects(walk([index.target], source), failure)
})

test('walkHeld lets others have their turn, although it has to wait for nothing', async () => {
  // Each manifest is read and hashed: some 100 ms for all of them.
  const manifests = Array.from({ length: 3_000 }, (_, seed) => makeImage({ seed, layers: 1, layerSize: 1 }))
  const { source } = sourceOf(manifests.flatMap(({ contents }) => contents))
  let turns = 0
  const timer = setInterval(() => {
    turns++
  }, 1)
  try {
    const { held } = await walk(
      manifests.map(({ target }) => target),
      source,
    )
    assert.ok(held.length > manifests.length)
    assert.ok(turns > 1, `${turns} turns`)
  } finally {
    clearInterval(timer)
  }
})
