import assert from 'node:assert/strict'
import { appendFile, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../../../lib/observe/log.ts'
import { Readiness } from '../../../../lib/observe/readiness.ts'
import type { Key } from '../../../../lib/oci/key.ts'
import { openLayoutStore } from '../../../../lib/store/layout/layout.ts'
import { digestOf, makeImage, withTemporaryDirectory, writeLayout } from '../../../fixtures/image.ts'
import { blobPath, NAME, never, tagged, withLayoutStore } from '../../../fixtures/layout.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'
import { waitFor } from '../../../fixtures/wait.ts'

test('layout store keeps the last good state while index.json is corrupt, says so, and recovers', async () => {
  const image = makeImage()
  const { log, lines } = createLogRecorder()
  const readiness = new Readiness()
  await withLayoutStore(
    (dir) => writeLayout(dir, [{ image, names: [NAME] }]),
    async (store, dir) => {
      const index = await readFile(join(dir, 'index.json'))
      await writeFile(join(dir, 'index.json'), '{"schemaVersion":')
      await waitFor('the store is not up', () => !store.isUp)
      assert.match(String(readiness.reasons), /index\.json: not JSON/)
      assert.equal(await store.resolve(tagged(NAME), never), image.target.digest)
      assert.deepEqual(await store.describe(image.target.digest, never), image.target)
      assert.ok(lines.some(({ level, event }) => level === 'error' && event.startsWith('layout is unreadable')))

      await writeFile(join(dir, 'index.json'), index)
      await waitFor('the store is up', () => store.isUp)
      assert.ok(lines.some(({ event }) => event === 'layout is readable again'))
    },
    { log, readiness },
  )
})

test('layout store sees changes without events, by reading again', async () => {
  const [one, two] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  await withTemporaryDirectory(async (parent) => {
    // A link changes and so replaces the watched directory, without an event.
    const [before, after, dir] = [join(parent, 'before'), join(parent, 'after'), join(parent, 'layout')]
    await writeLayout(before, [{ image: one, names: [NAME] }])
    await writeLayout(after, [{ image: two, names: [NAME] }])
    await symlink(before, dir)
    const store = await openLayoutStore(dir, { log: silentLogger, lookInterval: 50 })
    try {
      assert.equal(await store.resolve(tagged(NAME), never), one.target.digest)
      await symlink(after, `${dir}.new`)
      await rename(`${dir}.new`, dir)
      await waitFor('the other image', async () => (await store.resolve(tagged(NAME), never)) === two.target.digest)
      assert.equal(await store.describe(one.target.digest, never), undefined)
      const third = makeImage({ seed: 3 })
      await writeLayout(dir, [{ image: third, names: [NAME] }])
      await waitFor('the third image', async () => (await store.resolve(tagged(NAME), never)) === third.target.digest)
    } finally {
      await store.close()
    }
  })
})

test('layout store reads nothing again of what has not changed', async (t) => {
  if (process.platform !== 'linux') return t.skip('counts the bytes that this process reads, in /proc')
  const image = makeImage()
  await withTemporaryDirectory(async (dir) => {
    await writeLayout(dir, [{ image, names: [NAME] }])
    const index = join(dir, 'index.json')
    const size = 1 << 20
    await appendFile(index, ' '.repeat(size))
    const store = await openLayoutStore(dir, { log: silentLogger, lookInterval: 10 })
    try {
      let before = await bytesRead()
      const isQuiet = async () => {
        const since = before
        before = await bytesRead()
        return before - since < size
      }
      // What is fresh may still change without a trace.
      await waitFor('some 20 looks in a row that read nothing', async () => {
        await new Promise((resolve) => setTimeout(resolve, 200))
        return await isQuiet()
      })
    } finally {
      await store.close()
    }
  })
})

test('layout store sees changes by events alone', async () => {
  const [one, two] = [makeImage({ seed: 1 }), makeImage({ seed: 2 })]
  await withLayoutStore(
    (dir) => writeLayout(dir, [{ image: one, names: [NAME] }]),
    async (store, dir) => {
      await writeLayout(dir, [{ image: two, names: [NAME] }])
      await waitFor('the other image', async () => (await store.resolve(tagged(NAME), never)) === two.target.digest)
      const layer = two.contents.at(-1) ?? assert.fail()
      const gone = (async () => {
        for await (const { removed } of store.watch(never)) {
          if (removed.includes(layer.descriptor.digest as string as Key)) return
        }
      })()
      await rm(blobPath(dir, layer.descriptor.digest))
      await gone
    },
    { lookInterval: 600_000 },
  )
})

test('layout store sees changes although events do not cease', async () => {
  const image = makeImage()
  await withLayoutStore(
    (dir) => writeLayout(dir, []),
    async (store, dir) => {
      const writing = new AbortController()
      const writer = (async () => {
        // Looks like a copy in place. The pauses between its events are far shorter than the settle time.
        for (let at = 0; !writing.signal.aborted; at++) {
          await appendFile(blobPath(dir, digestOf(new Uint8Array())), String(at))
          await new Promise((resolve) => setTimeout(resolve, 5))
        }
      })()
      try {
        await writeLayout(dir, [{ image, names: [NAME] }])
        await waitFor('the image', () => store.resolve(tagged(NAME), never))
      } finally {
        writing.abort()
        await writer
      }
    },
    { lookInterval: 600_000, settleTime: 200 },
  )
})

test('layout store watches nothing any more after close', async (t) => {
  if (process.platform !== 'linux') return t.skip('counts the inotify watches in /proc')
  await withTemporaryDirectory(async (dir) => {
    await writeLayout(dir, [{ image: makeImage() }])
    const store = await openLayoutStore(dir, { log: silentLogger })
    await waitFor('the directory is watched', () => isWatched(dir))
    await store.close()
    await waitFor('the directory is not watched', async () => !(await isWatched(dir)))
  })
})

/** How many bytes this process has read from files (proc(5), /proc/pid/io). */
async function bytesRead(): Promise<number> {
  return Number(/^rchar: (\d+)$/m.exec(await readFile('/proc/self/io', 'utf8'))?.[1])
}

/** Whether an inotify instance of this process has a watch on the directory (proc(5), /proc/pid/fdinfo). */
async function isWatched(dir: string): Promise<boolean> {
  const inode = `ino:${(await stat(dir)).ino.toString(16)} `
  for (const fd of await readdir('/proc/self/fdinfo')) {
    // A descriptor may be closed between the listing and the reading.
    const info = await readFile(join('/proc/self/fdinfo', fd), 'utf8').catch(() => '')
    if (info.split('\n').some((line) => line.startsWith('inotify ') && line.includes(inode))) return true
  }
  return false
}
