import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, watch, writeFileSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { createContentFiles, digestOfRef } from '../../../../lib/containerd/store/files.ts'
import type { Digest } from '../../../../lib/oci/digest.ts'
import { digestOf, withTemporaryDirectory } from '../../../fixtures/image.ts'
import { blobPath, never } from '../../../fixtures/layout.ts'
import { createLogRecorder, type LogLine } from '../../../fixtures/log.ts'
import { waitFor, within } from '../../../fixtures/wait.ts'

const digest = (seed: number) => digestOf(new Uint8Array([seed]))

/** The files of a containerd, and what they reported. */
async function withFiles(
  use: (
    files: ReturnType<typeof createContentFiles>,
    root: string,
    heard: readonly Digest[],
    lines: readonly LogLine[],
  ) => Promise<void>,
  directories: readonly string[] = ['ingest', 'blobs/sha256'],
): Promise<void> {
  await withTemporaryDirectory(async (root) => {
    for (const directory of directories) await mkdir(join(root, directory), { recursive: true })
    const heard: Digest[] = []
    const { log, lines } = createLogRecorder()
    const files = createContentFiles({ namespace: 'k8s.io', onContent: (digest) => heard.push(digest), log })
    try {
      await use(files, root, heard, lines)
    } finally {
      files.close()
    }
  })
}

/** Begins an ingest as containerd does, and returns its directory. */
async function ingest(root: string, ref: string, { total, bytes = '' }: { total?: number; bytes?: string } = {}) {
  const directory = join(root, 'ingest', createHash('sha256').update(ref).digest('hex'))
  await mkdir(directory)
  await writeFile(join(directory, 'ref'), ref)
  if (total !== undefined) await writeFile(join(directory, 'total'), `${total}`)
  await writeFile(join(directory, 'data'), bytes)
  return directory
}

test('files show what a pull writes, whether it began before the first look or after it', () =>
  withFiles(async (files, root) => {
    await ingest(root, `k8s.io/1/layer-${digest(1)}`, { total: 3, bytes: 'ab' })
    await files.check(root)
    await ingest(root, `k8s.io/22/manifest-${digest(2)}`)
    const before = await waitFor('the first', () => files.arriving(digest(1)))
    const after = await waitFor('the second', () => files.arriving(digest(2)))
    assert.deepEqual([before.size, after.size], [3, undefined])
    await within('what is there', before.grown(1, never))
    assert.deepEqual([before.written, after.written], [2, 0])
    for (const arrival of [before, after]) arrival.close()
  }))

test('files report the first content of a containerd that has had none', () =>
  withFiles(
    async (files, root, heard) => {
      await files.check(root)
      assert.equal(files.areWatched, false)
      // containerd makes the directory, and moves the file into it before anybody can watch it.
      mkdirSync(join(root, 'blobs', 'sha256'), { recursive: true })
      writeFileSync(blobPath(root, digest(1)), 'a')
      await waitFor('the first', () => heard.includes(digest(1)))
      assert.equal(files.areWatched, true)
      writeFileSync(blobPath(root, digest(2)), 'b')
      await waitFor('the second', () => heard.includes(digest(2)))
    },
    ['ingest'],
  ))

test('files do not show what another namespace writes, or an ingest of an unknown digest', () =>
  withFiles(async (files, root) => {
    await files.check(root)
    await ingest(root, `other/1/layer-${digest(1)}`)
    await ingest(root, 'k8s.io/1/import-archive')
    await ingest(root, `k8s.io/1/layer-${digest(2)}`)
    await waitFor('the last', () => files.arriving(digest(2)) !== undefined)
    assert.equal(files.arriving(digest(1)), undefined)
  }))

test('files show an ingest whose files appear one after the other', () =>
  withFiles(async (files, root) => {
    await files.check(root)
    const directory = join(root, 'ingest', 'a'.repeat(64))
    await mkdir(directory)
    await writeFile(join(directory, 'ref'), `k8s.io/1/layer-${digest(1)}`)
    await writeFile(join(directory, 'total'), '9')
    assert.equal(files.arriving(digest(1)), undefined)
    await writeFile(join(directory, 'data'), '')
    const arrival = await waitFor('it', () => files.arriving(digest(1)))
    assert.equal(arrival.size, 9)
    await rm(directory, { recursive: true })
    assert.equal(await within('the end', arrival.ended), 'aborted')
    assert.equal(files.arriving(digest(1)), undefined)
  }))

test('files end the arrival of each ingest that is removed, though many are removed at once', () =>
  withFiles(async (files, root) => {
    const numbers = Array.from({ length: 60 }, (_, number) => number)
    const directories = await Promise.all(
      numbers.map((number) => ingest(root, `k8s.io/1/layer-${digest(number)}`, { total: 9, bytes: 'ab' })),
    )
    await files.check(root)
    const arrivals = await Promise.all(numbers.map((number) => waitFor('it', () => files.arriving(digest(number)))))
    await within('what is there', Promise.all(arrivals.map((arrival) => arrival.grown(1, never))))
    await Promise.all(directories.map((directory) => rm(directory, { recursive: true })))
    const ends = await within('their ends', Promise.all(arrivals.map(({ ended }) => ended)))
    assert.deepEqual(ends, Array(60).fill('aborted'))
  }))

test('files keep up with thousands of ingests that begin at the same time', () =>
  withFiles(async (files, root) => {
    await files.check(root)
    const name = (index: number) => digestOf(Buffer.from(String(index)))
    for (let index = 0; index < 1_000; index++) {
      const directory = join(root, 'ingest', createHash('sha256').update(`${index}`).digest('hex'))
      mkdirSync(directory)
      writeFileSync(join(directory, 'ref'), `k8s.io/1/layer-${name(index)}`)
      writeFileSync(join(directory, 'data'), '')
    }
    const begun = performance.now()
    for (const index of [0, 500, 999]) (await waitFor('it', () => files.arriving(name(index)))).close()
    // Less than 50 ms. Reading the directory for each of them, and comparing all names with all, took 4 s.
    assert.ok(performance.now() - begun < 2_000)
  }))

test('files end arrivals when containerd is lost, and when they are closed', () =>
  withFiles(async (files, root) => {
    await files.check(root)
    await ingest(root, `k8s.io/1/layer-${digest(1)}`)
    const lost = await waitFor('it', () => files.arriving(digest(1)))
    files.lost()
    assert.equal(await within('the loss', lost.ended), 'aborted')
    const closed = files.arriving(digest(1)) ?? assert.fail('it is there no more')
    files.close()
    assert.equal(await within('the end', closed.ended), 'aborted')
  }))

test('files report each digest that comes and goes, and nothing else', () =>
  withFiles(async (files, root, heard) => {
    await files.check(root)
    assert.equal(files.areWatched, true)
    const directory = await ingest(root, `k8s.io/1/layer-${digest(1)}`, { total: 1, bytes: '\x01' })
    await rename(join(directory, 'data'), blobPath(root, digest(1)))
    await waitFor('its coming', () => heard.includes(digest(1)))
    assert.equal(await files.find(digest(1), 1), blobPath(root, digest(1)))
    assert.equal(await files.find(digest(1), 2), undefined)
    await writeFile(join(root, 'blobs/sha256/part'), '')
    const before = heard.length
    await rm(blobPath(root, digest(1)))
    await waitFor('its going', () => heard.length > before)
    assert.deepEqual([...new Set(heard)], [digest(1)])
    assert.equal(await files.find(digest(1), 1), undefined)
  }))

test('files are watched as soon as they exist and are looked at, and no longer when they become unreadable', () =>
  withFiles(async (files, root, heard) => {
    await files.check(undefined)
    await files.check(root)
    assert.equal(files.areWatched, false)
    await mkdir(join(root, 'ingest'))
    await files.check(root)
    assert.equal(files.areWatched, false)
    await mkdir(join(root, 'blobs/sha256'), { recursive: true })
    await files.check(root)
    assert.equal(files.areWatched, true)
    await writeFile(blobPath(root, digest(1)), '')
    await waitFor('its coming', () => heard.includes(digest(1)))
    await ingest(root, `k8s.io/1/layer-${digest(2)}`)
    await waitFor('it', () => files.arriving(digest(2)) !== undefined)
    await files.check(join(root, 'elsewhere'))
    assert.equal(files.areWatched, false)
    assert.equal(files.arriving(digest(2)), undefined)
  }, []))

test('files are watched anew after somebody has removed all of them and containerd has begun again', () =>
  withFiles(async (files, root, heard) => {
    await files.check(root)
    await rm(root, { recursive: true })
    await heardAll()
    // ext4 gives the new directories the inodes of the old ones.
    for (const directory of ['ingest', 'blobs/sha256']) await mkdir(join(root, directory), { recursive: true })
    await files.check(root)
    await writeFile(blobPath(root, digest(1)), '')
    await waitFor('its coming', () => heard.includes(digest(1)))
    await ingest(root, `k8s.io/1/layer-${digest(2)}`)
    await waitFor('the ingest', () => files.arriving(digest(2)) !== undefined)
  }))

/** Waits until this process has heard of all that has happened to watched directories. */
function heardAll(): Promise<void> {
  return withTemporaryDirectory(async (directory) => {
    const watcher = watch(directory)
    const last = once(watcher, 'change')
    await writeFile(join(directory, 'last'), '')
    await within('the last event', last)
    watcher.close()
  })
}

test('files log once how content is read, and do not warn before there is content', () =>
  withFiles(async (files, root, _heard, lines) => {
    const told = () => lines.map(({ level, event, fields }) => [level, event, fields.root])
    const warning = ['warn', 'containerd content is read through the socket', root]
    files.tell(true)
    await files.check(root)
    files.tell(false)
    assert.deepEqual(told(), [])
    files.tell(true)
    files.tell(true)
    assert.deepEqual(told(), [warning])
    assert.match(String(lines[0]?.fields.reason), /ENOENT/)
    await mkdir(join(root, 'ingest'))
    await files.check(root)
    files.tell(false)
    assert.deepEqual(told(), [warning, ['info', 'containerd content is read from files', root]])
  }, []))

test('digestOfRef reads the refs of pulls in the namespace', () => {
  for (const kind of ['layer', 'manifest', 'index', 'config', 'attestation']) {
    assert.equal(digestOfRef(`k8s.io/1/${kind}-${digest(1)}`, 'k8s.io'), digest(1))
  }
  for (const text of [
    '',
    'k8s.io',
    `layer-${digest(1)}`,
    `k8s.io/1/layer-${digest(1)}/2`,
    'k8s.io/1/layer-sha256:12',
  ]) {
    assert.equal(digestOfRef(text, 'k8s.io'), undefined, text)
  }
  const parts = fc.tuple(
    fc.string(),
    fc.string(),
    fc.constantFrom('', digest(1), `layer-${digest(2)}`, `-${digest(3)}`),
  )
  fc.assert(
    fc.property(parts, fc.string(), (written, namespace) => {
      const found = digestOfRef(written.join('/'), namespace)
      assert.ok(found === undefined || (written.join('/').startsWith(`${namespace}/`) && written[2].endsWith(found)))
    }),
  )
})
