import assert from 'node:assert/strict'
import { mkdir, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../../../lib/observe/log.ts'
import { markOf } from '../../../../lib/store/layout/files.ts'
import { openLayoutStore } from '../../../../lib/store/layout/layout.ts'
import { makeImage, withTemporaryDirectory, writeLayout } from '../../../fixtures/image.ts'
import { blobPath, never } from '../../../fixtures/layout.ts'
import { waitFor } from '../../../fixtures/wait.ts'

test('markOf stays as it is while nothing changes, and differs when a blob comes or goes or the layout is another one', async () => {
  await withTemporaryDirectory(async (parent) => {
    const dir = join(parent, 'layout')
    await writeLayout(dir, [{ image: makeImage() }])
    assert.equal(await markOf(dir), undefined, 'a change so young may be followed by one that leaves the same mark')
    const settled = () => markOf(dir, Date.now() + 10_000)
    const marks = [await settled()]
    assert.ok(marks[0] !== undefined)
    assert.equal(await settled(), marks[0])
    const blobs = join(dir, 'blobs/sha256')
    const probe = join(parent, 'probe')
    /** Changes within one tick of the file system's clock leave the same mark. */
    const tick = () =>
      waitFor('the clock of the file system to go on', async () => {
        await writeFile(probe, '')
        return (await stat(probe)).mtimeMs > (await stat(blobs)).mtimeMs
      })
    const added = join(blobs, 'a'.repeat(64))
    await tick()
    await writeFile(added, 'blob')
    marks.push(await settled())
    await tick()
    await rm(added)
    marks.push(await settled())
    await rename(dir, `${dir}.old`)
    marks.push(await settled())
    assert.equal(new Set(marks).size, marks.length)
  })
})

test('layout store notices a blob that was written over without an event, when it reads thoroughly', async () => {
  const image = makeImage()
  const layer = image.contents.at(-1)?.descriptor ?? assert.fail()
  await withTemporaryDirectory(async (dir) => {
    await writeLayout(dir, [{ image }])
    // No directory that is watched has the file itself.
    const aside = join(dir, 'aside', 'blob')
    await mkdir(join(dir, 'aside'))
    await rename(blobPath(dir, layer.digest), aside)
    await symlink(aside, blobPath(dir, layer.digest))
    await waitFor('the mark', async () => (await markOf(dir)) !== undefined)
    const store = await openLayoutStore(dir, { log: silentLogger, rereadInterval: 20, thoroughInterval: 100 })
    try {
      const changes = store.watch(never)
      const first = await changes[Symbol.asyncIterator]().next()
      assert.ok(first.value?.added.includes(layer.digest as never))
      const mark = await markOf(dir)
      await truncate(aside, 1)
      const { value } = await changes[Symbol.asyncIterator]().next()
      assert.deepEqual(value?.removed, [layer.digest])
      assert.equal(await markOf(dir), mark)
    } finally {
      await store.close()
    }
  })
})
