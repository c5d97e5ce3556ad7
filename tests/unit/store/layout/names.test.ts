import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { tagKey } from '../../../../lib/oci/key.ts'
import { makeImage, REF_NAME, writeLayout } from '../../../fixtures/image.ts'
import { blobPath, heldKeys, NAME, never, tagged, withLayoutStore } from '../../../fixtures/layout.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'
import { waitFor } from '../../../fixtures/wait.ts'

test('layout store resolves full names only, and says once of other entries how to name them', async () => {
  const [full, bare, nameless] = [makeImage({ seed: 1 }), makeImage({ seed: 2 }), makeImage({ seed: 3 })]
  const { log, lines } = createLogRecorder()
  const prepare = (dir: string) =>
    writeLayout(dir, [
      { image: full, names: ['registry.example:5000/a/b:1', NAME] },
      { image: bare, names: ['latest', 'alpine:3.20', 'team/app:1', 'docker.io/library/untagged'] },
      { image: nameless },
    ])
  await withLayoutStore(
    prepare,
    async (store, dir) => {
      assert.equal(await store.resolve(tagged('registry.example:5000/a/b:1'), never), full.target.digest)
      assert.equal(await store.resolve(tagged(NAME), never), full.target.digest)
      for (const name of ['latest', 'alpine:3.20', 'team/app:1', 'docker.io/library/untagged']) {
        assert.equal(await store.resolve(tagged(name), never), undefined)
      }
      assert.deepEqual(await store.describe(bare.target.digest, never), bare.target)
      const tags = (await heldKeys(store)).filter((key) => key.includes('/'))
      assert.deepEqual(new Set(tags), new Set([tagKey(tagged(NAME)), tagKey(tagged('registry.example:5000/a/b:1'))]))

      const added = makeImage({ seed: 4 })
      await writeLayout(dir, [{ image: bare, names: ['latest'] }, { image: nameless }, { image: added }])
      await waitFor('the layout is read again', () => store.describe(added.target.digest, never))
      const told = lines.filter(({ event }) => event === 'layout entry is served by digest only')
      assert.deepEqual(
        told.map(({ fields }) => fields.names),
        [['latest'], ['alpine:3.20'], ['team/app:1'], ['docker.io/library/untagged'], [], []],
      )
      assert.match(String(told[0]?.fields.hint), /registry\/repository:tag/)
    },
    { log },
  )
})

test("layout store reads docker save's annotations", async () => {
  const image = makeImage()
  const prepare = async (dir: string) => {
    await writeLayout(dir, [{ image }])
    const annotations = { 'io.containerd.image.name': NAME, [REF_NAME]: '1' }
    await writeFile(
      join(dir, 'index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: [{ ...image.target, annotations }] }),
    )
  }
  await withLayoutStore(prepare, async (store) => {
    assert.equal(await store.resolve(tagged(NAME), never), image.target.digest)
  })
})

test('layout store serves no name that two images share', async () => {
  const [one, two] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  const prepare = (dir: string) =>
    writeLayout(dir, [
      { image: one, names: [NAME] },
      { image: two, names: [NAME] },
    ])
  const { log, lines } = createLogRecorder()
  await withLayoutStore(
    prepare,
    async (store) => {
      assert.equal(await store.resolve(tagged(NAME), never), undefined)
      assert.deepEqual(await store.describe(two.target.digest, never), two.target)
      assert.equal(lines.filter(({ event }) => event === 'layout name is ambiguous, not served').length, 1)
    },
    { log },
  )
})

test('layout store neither tells nor resolves a name whose image is not there', async () => {
  const image = makeImage()
  const prepare = async (dir: string) => {
    await writeLayout(dir, [{ image, names: [NAME] }])
    await rm(blobPath(dir, image.target.digest))
  }
  await withLayoutStore(prepare, async (store) => {
    assert.deepEqual(await heldKeys(store), [])
    assert.equal(await store.resolve(tagged(NAME), never), undefined)
  })
})

test('layout store resolves a name with tag and digest only if the digest is that of the entry', async () => {
  const [one, two] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  const prepare = (dir: string) =>
    writeLayout(dir, [
      { image: one, names: [`ghcr.io/a:right@${one.target.digest}`, `ghcr.io/a:wrong@${two.target.digest}`] },
    ])
  await withLayoutStore(prepare, async (store) => {
    assert.equal(await store.resolve(tagged('ghcr.io/a:right'), never), one.target.digest)
    assert.equal(await store.resolve(tagged('ghcr.io/a:wrong'), never), undefined)
  })
})
