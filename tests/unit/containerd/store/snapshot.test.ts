import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ContainerdImage } from '../../../../lib/containerd/client/client.ts'
import { ContainerdError } from '../../../../lib/containerd/client/error.ts'
import { createSnapshotTaker, readSmall, tagOf } from '../../../../lib/containerd/store/snapshot.ts'
import type { Digest } from '../../../../lib/oci/digest.ts'
import { digestKey, type Key } from '../../../../lib/oci/key.ts'
import { type Content, contentOf, DOCKER, type Image, makeImage, makeIndex } from '../../../fixtures/image.ts'

const never = new AbortController().signal
const NAME = 'registry.example:5000/team/app:1.2'

const noProblem = ({ problem }: { readonly problem: string }) => assert.fail(problem)

/** The lists of a namespace, and what was read. The test decides what comes and goes between the lists and the reads. */
function makeNamespace() {
  const images: ContainerdImage[] = []
  const contents = new Map<Digest, Content>()
  const labels = new Map<Digest, Record<string, string>>()
  const state = { reads: [] as Digest[], unreadable: new Set<Digest>(), labels }
  return {
    state,
    images: async () => [...images],
    async *listContent() {
      const { labels } = state
      for (const { descriptor } of contents.values())
        yield { ...descriptor, labels: labels.get(descriptor.digest) ?? {} }
    },
    async *readContent(digest: Digest) {
      state.reads.push(digest)
      const bytes = contents.get(digest)?.bytes
      if (bytes === undefined || state.unreadable.has(digest)) throw new ContainerdError('not-found', 'gone')
      // In pieces, as containerd does.
      for (let at = 0; at < bytes.length; at += 100) yield bytes.subarray(at, at + 100)
    },
    add(image: Image, ...names: readonly string[]) {
      for (const content of image.contents) contents.set(content.descriptor.digest, content)
      for (const name of names) images.push({ name, target: image.target })
    },
    removeImage(name: string) {
      images.splice(
        images.findIndex((image) => image.name === name),
        1,
      )
    },
    removeContent: (digest: Digest) => contents.delete(digest),
  }
}

const keysOf = (image: Image) => image.contents.map(({ descriptor }) => digestKey(descriptor.digest))

function assertKeys(actual: ReadonlySet<Key>, ...expected: readonly (readonly (Key | string)[])[]): void {
  assert.deepEqual([...actual].sort(), [...new Set(expected.flat())].sort())
}

/** Rules that leave nothing out. */
const everything = { admits: () => true, withholds: () => false }

test('snapshots hold what exists and is reachable, with the media types of the manifests', async () => {
  const namespace = makeNamespace()
  const image = makeImage({ mediaTypes: DOCKER })
  namespace.add(image, NAME)
  namespace.add(makeImage({ seed: 2 }))
  const snapshot = await createSnapshotTaker(namespace, everything, noProblem)(never)
  assertKeys(snapshot.keys, keysOf(image), [NAME])
  assert.deepEqual(
    snapshot.mediaTypes,
    new Map(image.contents.map(({ descriptor }) => [descriptor.digest, descriptor.mediaType])),
  )
})

test('snapshots keep a layer that two images share until the last of them goes', async () => {
  const namespace = makeNamespace()
  const [one, two] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  const both = makeIndex([one, two])
  namespace.add(one, NAME)
  namespace.add(both, 'docker.io/library/both:1')
  const take = createSnapshotTaker(namespace, everything, noProblem)
  assertKeys((await take(never)).keys, keysOf(both), [NAME, 'docker.io/library/both:1'])
  namespace.removeImage('docker.io/library/both:1')
  assertKeys((await take(never)).keys, keysOf(one), [NAME])
  namespace.removeImage(NAME)
  assertKeys((await take(never)).keys)
})

test('snapshots omit a tag without its target, and content that disappeared from an image', async () => {
  const namespace = makeNamespace()
  const image = makeImage()
  const layer = image.contents.at(-1)?.descriptor.digest ?? assert.fail()
  namespace.add(image, NAME)
  const take = createSnapshotTaker(namespace, everything, noProblem)
  namespace.removeContent(layer)
  const without = keysOf(image).filter((key) => key !== digestKey(layer))
  assertKeys((await take(never)).keys, without, [NAME])
  namespace.removeContent(image.target.digest)
  assertKeys((await take(never)).keys)
})

test('snapshots of the same lists read nothing, and say that nothing changed', async () => {
  const namespace = makeNamespace()
  const image = makeImage()
  namespace.add(image, NAME)
  const take = createSnapshotTaker(namespace, everything, noProblem)
  assert.equal((await take(never)).changed, true)
  const again = await take(never)
  assert.equal(again.changed, false)
  assertKeys(again.keys, keysOf(image), [NAME])
  assert.deepEqual(namespace.state.reads, [image.target.digest])
})

test('snapshots read a manifest once, even when other images come and go', async () => {
  const namespace = makeNamespace()
  const [one, two] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  namespace.add(one, NAME)
  const take = createSnapshotTaker(namespace, everything, noProblem)
  await take(never)
  namespace.add(two, `${NAME}-two`)
  assert.equal((await take(never)).changed, true)
  assert.deepEqual(namespace.state.reads, [one.target.digest, two.target.digest])
})

test('snapshots survive a manifest that is collected between the list and the read', async () => {
  const namespace = makeNamespace()
  const image = makeImage()
  namespace.add(image, NAME)
  namespace.state.unreadable.add(image.target.digest)
  const snapshot = await createSnapshotTaker(namespace, everything, noProblem)(never)
  assertKeys(snapshot.keys)
})

test('snapshots report the same problem once', async () => {
  const namespace = makeNamespace()
  const image = makeImage()
  const broken = contentOf(image.target.mediaType, new TextEncoder().encode('{'))
  namespace.add({ target: broken.descriptor, contents: [broken] }, 'docker.io/library/broken:1')
  const problems: string[] = []
  const take = createSnapshotTaker(namespace, everything, ({ problem }) => problems.push(problem))
  await take(never)
  namespace.add(image, NAME)
  await take(never)
  assert.equal(problems.length, 1)
})

test('tagOf is the reference of a full name in normal form', () => {
  assert.deepEqual(tagOf('docker.io/library/alpine:3.20'), {
    registry: 'docker.io',
    repository: 'library/alpine',
    tag: '3.20',
  })
  assert.deepEqual(tagOf(NAME), { registry: 'registry.example:5000', repository: 'team/app', tag: '1.2' })
  const digest = `sha256:${'0'.repeat(64)}`
  for (const name of [
    digest,
    `docker.io/library/alpine@${digest}`,
    `docker.io/library/alpine:3.20@${digest}`,
    // Nobody asks for these: a registry's client says docker.io and library/alpine.
    'alpine:3.20',
    'docker.io/alpine:3.20',
    'DOCKER.IO/library/alpine:3.20',
    'docker.io/library/alpine',
    'import-2026-11-23',
    '',
  ]) {
    assert.equal(tagOf(name), undefined, name)
  }
})

test('tagOf takes any name without throwing', () => {
  fc.assert(
    fc.property(fc.string(), (name) => {
      const tag = tagOf(name)
      if (tag !== undefined) assert.equal(`${tag.registry}/${tag.repository}:${tag.tag}`, name)
    }),
  )
})

test('readSmall joins pieces, and returns undefined for content that is gone', async () => {
  const namespace = makeNamespace()
  const content = contentOf(
    'text/plain',
    new Uint8Array(250).map((_, index) => index),
  )
  namespace.add({ target: content.descriptor, contents: [content] })
  const { digest, size } = content.descriptor
  assert.deepEqual(await readSmall(namespace, digest, size, never), content.bytes)
  namespace.state.unreadable.add(digest)
  assert.equal(await readSmall(namespace, digest, size, never), undefined)
  const broken = {
    async *readContent() {
      yield* [] as Uint8Array[]
      throw new ContainerdError('unavailable', 'away')
    },
  }
  await assert.rejects(readSmall(broken, digest, size, never), { code: 'unavailable' })
})

test('snapshots withhold what only refused images reach', async () => {
  const namespace = makeNamespace()
  const [open, secret] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  const shared = makeIndex([open])
  namespace.add(open, NAME)
  namespace.add(shared, 'docker.io/secret/shared:1')
  namespace.add(secret, 'docker.io/secret/app:1', `docker.io/secret/app@${secret.target.digest}`)
  const admits = ({ repository }: { readonly repository: string }) => !repository.startsWith('secret/')
  const { keys, withheld } = await createSnapshotTaker(namespace, { ...everything, admits }, noProblem)(never)
  assertKeys(keys, keysOf(open), [NAME])
  const expected = [shared.target.digest, ...secret.contents.map(({ descriptor }) => descriptor.digest)]
  assert.deepEqual([...withheld].sort(), expected.sort())
})

test('snapshots omit content by its labels, whatever names it has', async () => {
  const namespace = makeNamespace()
  const [open, withheld] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  namespace.add(open, NAME)
  namespace.add(withheld, 'docker.io/library/app:1', 'sha256:0')
  for (const { descriptor } of withheld.contents) namespace.state.labels.set(descriptor.digest, { from: 'probe' })
  const rules = { ...everything, withholds: ({ from }: Readonly<Record<string, string>>) => from === 'probe' }
  const { keys } = await createSnapshotTaker(namespace, rules, noProblem)(never)
  assertKeys(keys, keysOf(open), [NAME])
})
