import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../lib/observe/log.ts'
import type { Key } from '../../../lib/oci/key.ts'
import { createHoldings } from '../../../lib/page/holdings.ts'
import { unlessAborted } from '../../../lib/platform/abort.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { makeImage } from '../../fixtures/image.ts'
import { never, tagged } from '../../fixtures/layout.ts'

const image = makeImage({ layers: 6 })
const NAMES = ['registry.example/b:1', 'registry.example/a:1', 'registry.example/c:1']
const sizes = image.contents.map(({ descriptor }) => descriptor.size)

test('createHoldings sums up held content, asks for some sizes at a time, and forgets removed content', async () => {
  const store = createMemoryStore()
  store.addImage(image, ...NAMES.map(tagged))
  const held = new Set<Key>([
    ...image.contents.map(({ descriptor }) => descriptor.digest),
    ...NAMES,
  ] as string[] as Key[])
  let asked = 0
  const counting = {
    ...store,
    describe(...args: Parameters<typeof store.describe>) {
      asked++
      return store.describe(...args)
    },
  }
  const holdings = createHoldings({ store: counting, held, log: silentLogger }, { listed: 2, batch: 5 })
  const first = await holdings(never)
  assert.deepEqual([first.images, first.more], [['registry.example/a:1', 'registry.example/b:1'], 1])
  assert.deepEqual([first.digests, first.unsized, asked], [8, 3, 5])
  const second = await holdings(never)
  assert.deepEqual([second.unsized, asked], [0, 8])
  assert.equal(
    second.bytes,
    sizes.reduce((sum, size) => sum + size, 0),
  )
  const [gone] = image.contents
  held.delete(gone?.descriptor.digest as string as Key)
  const third = await holdings(never)
  assert.deepEqual([third.digests, third.bytes, asked], [7, second.bytes - (gone?.descriptor.size ?? 0), 8])
})

test('createHoldings lists held content even while the store cannot be asked', async () => {
  const store = { ...createMemoryStore(), describe: () => Promise.reject(new Error('away')) }
  const held = new Set(image.contents.map(({ descriptor }) => descriptor.digest)) as ReadonlySet<string> as Set<Key>
  const holdings = createHoldings({ store, held, log: silentLogger })
  const { digests, unsized, bytes } = await holdings(never)
  assert.deepEqual([digests, unsized, bytes], [8, 8, 0])
  await assert.rejects(holdings(AbortSignal.abort(new Error('left'))), /left/)
})

test('createHoldings does not wait for a store that hangs, and keeps the sizes that it has got', async () => {
  const store = createMemoryStore()
  store.addImage(image)
  const digests = image.contents.map(({ descriptor }) => descriptor.digest)
  let hangs = true
  const hanging: typeof store = {
    ...store,
    describe: (digest, signal) =>
      hangs && digest === digests[2]
        ? unlessAborted(new Promise<never>(() => undefined), signal)
        : store.describe(digest, signal),
  }
  const held = new Set(digests) as ReadonlySet<string> as Set<Key>
  const holdings = createHoldings({ store: hanging, held, log: silentLogger }, { patience: 20 })
  assert.equal((await holdings(never)).unsized, 6)
  hangs = false
  assert.equal((await holdings(never)).unsized, 0)
})
