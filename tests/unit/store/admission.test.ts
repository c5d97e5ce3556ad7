import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../../lib/observe/log.ts'
import { digestKey } from '../../../lib/oci/key.ts'
import { makeImage } from '../../../lib/oci/make-image.ts'
import { admittedNames, createPolicy } from '../../../lib/oci/policy.ts'
import { openLayoutStore } from '../../../lib/store/layout/layout.ts'
import { writeLayout } from '../../../lib/store/layout/writer.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

const DIGEST = `sha256:${'0'.repeat(64)}`
const { admits } = createPolicy({ exclude: [/\/secret\//, /:internal$/] })
const onlyHub = createPolicy({ registries: new Set(['docker.io']) }).admits

test('admittedNames: tags decide, and the names beside an admitted one stay', () => {
  const names = ['docker.io/team/app:1', 'docker.io/team/app:internal', `docker.io/team/app@${DIGEST}`, DIGEST]
  assert.deepEqual(admittedNames(names, admits), [names[0], names[2], names[3]])
})

test('admittedNames: content whose tags are all refused is refused by its other names too', () => {
  assert.equal(
    admittedNames(['docker.io/team/app:internal', `docker.io/team/app@${DIGEST}`, DIGEST], admits),
    undefined,
  )
})

test('admittedNames: without a tag the repository decides', () => {
  assert.equal(admittedNames([`docker.io/secret/app@${DIGEST}`], admits), undefined)
  assert.deepEqual(admittedNames([`docker.io/team/app@${DIGEST}`], admits), [`docker.io/team/app@${DIGEST}`])
})

test('admittedNames: content of no known registry is refused when only some registries are mirrored', () => {
  for (const names of [[], ['latest'], [DIGEST]]) {
    assert.deepEqual(admittedNames(names, admits), names)
    assert.equal(admittedNames(names, onlyHub), undefined)
  }
})

test('admittedNames: a text that is no full name admits nothing, and refuses what it would refuse as a name', () => {
  const long = `sha384:${'0'.repeat(96)}`
  for (const name of [
    'registry.example/secret/app',
    'registry.example:5000/secret/app',
    'my_registry:5000/secret/app:1',
    `docker.io/secret/app:1@${long}`,
    'localhost/secret/app',
    'team/secret/app:1',
    'docker.io/team/app_:internal',
    'app:internal',
  ]) {
    assert.equal(admittedNames([name], admits), undefined, name)
    assert.equal(admittedNames(['latest', name, DIGEST], admits), undefined, name)
    // Nor does it refuse what has a name.
    assert.deepEqual(admittedNames([name, 'docker.io/team/app:1'], admits), [name, 'docker.io/team/app:1'])
  }
  for (const name of ['registry.example/team/app', 'team/app:1', 'internal', '', ':', '/', '@', `app@${DIGEST}`]) {
    assert.deepEqual(admittedNames([name], admits), [name])
    assert.equal(admittedNames([name], onlyHub), undefined)
  }
})

test('layout store: what the policy does not admit is neither held nor described, unless another image needs it', async () => {
  await using parts = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-admission-'))
  parts.defer(() => rm(dir, { recursive: true, force: true }))
  const [open, secret, both] = [makeImage({ seed: 1 }), makeImage({ seed: 2 }), makeImage({ seed: 3 })]
  await writeLayout(dir, [
    { image: open, names: ['docker.io/team/open:1'] },
    { image: secret, names: ['docker.io/secret/app:1'] },
    { image: both, names: ['docker.io/secret/both:1', 'docker.io/team/both:1'] },
  ])
  const store = await openLayoutStore(dir, { log: silentLogger, admits })
  parts.defer(() => store.close())
  const signal = new AbortController().signal
  const [first] = await Array.fromAsync(takeFirst(store.watch(signal)))
  const digests = [...open.contents, ...both.contents].map(({ descriptor }) => digestKey(descriptor.digest))
  assert.deepEqual(
    [...(first?.added ?? [])].sort(),
    [...digests, 'docker.io/team/both:1', 'docker.io/team/open:1'].sort(),
  )
  for (const { descriptor } of secret.contents) {
    assert.equal(await store.describe(descriptor.digest, signal), undefined)
    assert.equal(await store.open(descriptor.digest, undefined, signal), undefined)
  }
  assert.equal(await store.resolve({ registry: 'docker.io', repository: 'secret/both', tag: '1' }, signal), undefined)
  assert.equal(
    await store.resolve({ registry: 'docker.io', repository: 'team/both', tag: '1' }, signal),
    both.target.digest,
  )
})

test('admittedNames: a long text is read in time', () => {
  // If the time grew with the square of the length, these would take minutes.
  for (const part of ['a.', 'a:', 'a/', 'a@', 'a']) {
    const name = part.repeat(300_000)
    const begun = performance.now()
    assert.equal(admittedNames([name], onlyHub), undefined)
    assert.ok(performance.now() - begun < 5_000, part)
  }
})

async function* takeFirst<T>(source: AsyncIterable<T>): AsyncIterable<T> {
  for await (const item of source) {
    yield item
    return
  }
}

test('layout store: a refused image is refused by its other entries too, as ORAS writes one for each name', async () => {
  await using parts = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-admission-'))
  parts.defer(() => rm(dir, { recursive: true, force: true }))
  const [bare, secret, both] = [makeImage({ seed: 1 }), makeImage({ seed: 2 }), makeImage({ seed: 3 })]
  await writeLayout(dir, [
    { image: bare, names: ['work'] },
    // As oras cp --to-oci-layout DIR:copied and oras tag --oci-layout DIR:copied docker.io/secret/app:1 leave it.
    { image: secret, names: ['copied', 'docker.io/secret/app:1'] },
    { image: both, names: ['copied-too', 'docker.io/secret/both:1', 'docker.io/team/both:1'] },
  ])
  const { log, lines } = createLogRecorder()
  const store = await openLayoutStore(dir, { log, admits })
  parts.defer(() => store.close())
  const signal = new AbortController().signal
  const [first] = await Array.fromAsync(takeFirst(store.watch(signal)))
  const digests = [...bare.contents, ...both.contents].map(({ descriptor }) => digestKey(descriptor.digest))
  assert.deepEqual([...(first?.added ?? [])].sort(), [...digests, 'docker.io/team/both:1'].sort())
  for (const { descriptor } of secret.contents) {
    assert.equal(await store.describe(descriptor.digest, signal), undefined)
    assert.equal(await store.open(descriptor.digest, undefined, signal), undefined)
  }
  const unnamed = lines.filter(({ event }) => event === 'layout entry is served by digest only')
  assert.deepEqual(
    unnamed.map(({ fields }) => fields.names),
    [['work'], ['copied-too']],
  )
})
