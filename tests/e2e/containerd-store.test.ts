import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { makeProbeImage } from '../../lib/containerd/check/probe-door.ts'
import { probeOfLabels } from '../../lib/containerd/probe-name.ts'
import { digestKey, type Key } from '../../lib/oci/key.ts'
import { MANIFEST_SIZE_LIMIT, OCTET_STREAM } from '../../lib/oci/media-type.ts'
import { FileSource } from '../../lib/platform/file-source.ts'
import { readBody } from '../fixtures/body.ts'
import { importImage, ingest, removeImage, startContainerd } from '../fixtures/containerd.ts'
import { holdsAll, keysOf, watchStore } from '../fixtures/containerd-store.ts'
import { contentOf, makeImage, makeIndex } from '../fixtures/image.ts'
import type { LogLine } from '../fixtures/log.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const containerd = await startContainerd({ sharing: 'isolated' })
after(() => containerd.close())

const never = new AbortController().signal
const NAME = 'registry.example:5000/team/app:1.2'
const REFERENCE = { registry: 'registry.example:5000', repository: 'team/app', tag: '1.2' }

const withStore = watchStore.bind(undefined, containerd)

function eventsIn(lines: readonly LogLine[], text: string): LogLine[] {
  return lines.filter(({ event }) => event.includes(text))
}

test('containerd store serves files when it can read them, and says so once', async () => {
  const image = makeImage({ seed: 20 })
  await importImage(containerd, 'files', image, NAME)
  await withStore(
    'files',
    async ({ store, held, lines }) => {
      await waitFor('the image is held', () => holdsAll(held, keysOf(image)))
      for (const { descriptor, bytes } of image.contents) {
        const body = (await store.open(descriptor.digest, undefined, never)) ?? assert.fail('not held')
        assert.ok(body instanceof FileSource)
        assert.deepEqual(Buffer.from(await readBody(body)), Buffer.from(bytes))
      }
      await importImage(containerd, 'files', makeImage({ seed: 21 }), `${NAME}-other`)
      await waitFor('another change', () => held.has(`${NAME}-other` as Key))
      assert.deepEqual(
        eventsIn(lines, 'content is read').map(({ event, fields }) => [event, fields]),
        [['containerd content is read from files', { root: containerd.contentRoot }]],
      )
    },
    { restlessInterval: 10, restlessTime: 30 },
  )
})

test('containerd store serves through the socket when it finds no files, and says why', async () => {
  const image = makeImage({ seed: 22 })
  await importImage(containerd, 'socket', image, NAME)
  await withStore(
    'socket',
    async ({ store, held, lines }) => {
      await waitFor('the image is held', () => holdsAll(held, keysOf(image)))
      const body = await store.open(image.target.digest, undefined, never)
      assert.ok(body !== undefined && !(body instanceof FileSource))
      await body.cancel()
      const told = eventsIn(lines, 'content is read')
      assert.deepEqual(
        told.map(({ level, event }) => [level, event]),
        [['warn', 'containerd content is read through the socket']],
      )
      assert.match(String(told[0]?.fields.reason), /ENOENT/)
    },
    { contentRoot: '/var/empty/not-there' },
  )
})

test('containerd store does not warn about an empty containerd, and reads its files as soon as there are any', async () => {
  const fresh = await startContainerd()
  try {
    await watchStore(fresh, 'first', async ({ store, held, changes, lines }) => {
      await waitFor('the first change', () => changes.length > 0)
      const image = makeImage({ seed: 40 })
      await importImage(fresh, 'first', image, NAME)
      await waitFor('the image is held', () => holdsAll(held, keysOf(image)))
      assert.ok((await store.open(image.target.digest, undefined, never)) instanceof FileSource)
      assert.equal(eventsIn(lines, 'content is read from files').length, 1)
      assert.deepEqual(
        lines.filter(({ level }) => level === 'warn' || level === 'error'),
        [],
      )
    })
  } finally {
    await fresh.close()
  }
})

test('containerd store does not serve files of another, isolated namespace', async () => {
  const image = makeImage({ seed: 23 })
  await importImage(containerd, 'owner', image, NAME)
  await withStore('stranger', async ({ store, changes }) => {
    await waitFor('the first change', () => changes.length > 0)
    for (const { descriptor } of image.contents) {
      assert.equal(await store.describe(descriptor.digest, never), undefined)
      assert.equal(await store.open(descriptor.digest, undefined, never), undefined)
    }
    assert.equal(await store.resolve(REFERENCE, never), undefined)
    assert.deepEqual(changes, [{ added: [], removed: [] }])
  })
})

test('containerd store advertises only the platform of an index that is held', async () => {
  const [amd, arm] = [
    makeImage({ seed: 24 }),
    makeImage({ seed: 25, platform: { os: 'linux', architecture: 'arm64' } }),
  ]
  const index = makeIndex([amd, arm])
  const absent = new Set(keysOf(arm))
  const partial = {
    ...index,
    contents: index.contents.filter(({ descriptor }) => !absent.has(digestKey(descriptor.digest))),
  }
  await withStore('platforms', async ({ store, held }) => {
    await importImage(containerd, 'platforms', partial, NAME)
    await waitFor('the index is held', () => holdsAll(held, [...keysOf(partial), NAME as Key]))
    assert.equal(held.size, partial.contents.length + 1)
    for (const { descriptor } of arm.contents) assert.equal(await store.describe(descriptor.digest, never), undefined)
  })
})

test('containerd store advertises tags, but none of the other names that CRI makes', async () => {
  const image = makeImage({ seed: 26 })
  // In this namespace CRI adds `sha256:<config>` by itself.
  await withStore('k8s.io', async ({ held }) => {
    await importImage(containerd, 'k8s.io', image, NAME)
    await containerd.ctr('k8s.io', [
      'images',
      'tag',
      NAME,
      `registry.example:5000/team/app@${image.target.digest}`,
      'bare:1',
    ])
    await waitFor('the name that CRI makes', async () =>
      (await containerd.ctr('k8s.io', ['images', 'ls', '-q'])).includes('\nsha256:'),
    )
    await waitFor('the image is held', () => holdsAll(held, [...keysOf(image), NAME as Key]))
    assert.deepEqual(new Set(held), new Set([...keysOf(image), NAME as Key]))
    await removeImage(containerd, 'k8s.io', image)
    await waitFor('nothing is held', () => held.size === 0)
  })
})

test('containerd store withdraws an image when its removal is reported, and keeps what another image shares', async () => {
  const [one, two] = [makeImage({ seed: 27 }), makeImage({ seed: 28 })]
  // An index over both shares everything with each of them.
  const both = makeIndex([one, two])
  await withStore('removal', async ({ store, held }) => {
    await importImage(containerd, 'removal', one, NAME)
    await importImage(containerd, 'removal', both, `${NAME}-both`)
    await waitFor('both are held', () => holdsAll(held, [...keysOf(both), NAME as Key, `${NAME}-both` as Key]))
    await removeImage(containerd, 'removal', both)
    await waitFor('the index is withdrawn', () => !held.has(digestKey(both.target.digest)))
    assert.deepEqual(new Set(held), new Set([...keysOf(one), NAME as Key]))
    // By itself containerd may collect it later. The end of a lease makes it collect at once.
    await containerd.ctr('removal', ['leases', 'create', '--id', 'stir'])
    await containerd.ctr('removal', ['leases', 'delete', '--sync', 'stir'])
    for (const { descriptor } of two.contents) {
      await waitFor(
        'containerd collected it',
        async () => (await store.describe(descriptor.digest, never)) === undefined,
      )
    }
    for (const { descriptor } of one.contents)
      assert.deepEqual(await store.describe(descriptor.digest, never), descriptor)
  })
})

test('containerd store notices content that disappears without an event', async () => {
  const image = makeImage({ seed: 29 })
  const layer = image.contents.at(-1)?.descriptor ?? assert.fail()
  await importImage(containerd, 'silent', image, NAME)
  await withStore(
    'silent',
    async ({ held }) => {
      await waitFor('the image is held', () => holdsAll(held, keysOf(image)))
      // discard_unpacked_layers does the same: it removes the label that keeps the layer, and the garbage collection takes the layer.
      await containerd.ctr('silent', ['content', 'label', image.target.digest, 'containerd.io/gc.ref.content.l.2='])
      await containerd.ctr('silent', ['leases', 'create', '--id', 'stir'])
      await containerd.ctr('silent', ['leases', 'delete', '--sync', 'stir'])
      await waitFor('the layer is withdrawn', () => !held.has(digestKey(layer.digest)))
      assert.equal(held.size, image.contents.length)
    },
    { reconcileInterval: 100, restlessTime: 0 },
  )
})

test('containerd store serves content that no image names yet, and guesses its media type from its bytes', async () => {
  const image = makeImage({ seed: 30 })
  const [manifest, config] = image.contents
  assert.ok(manifest && config)
  const huge = contentOf(OCTET_STREAM, new Uint8Array(MANIFEST_SIZE_LIMIT + 1).fill(0x20))
  // Without a lease the garbage collection may remove them at once.
  for (const content of [manifest, config, huge]) await ingest(containerd, 'pulling', content)
  await withStore('pulling', async ({ store, held, changes }) => {
    assert.deepEqual(await store.describe(manifest.descriptor.digest, never), manifest.descriptor)
    assert.deepEqual(await store.describe(config.descriptor.digest, never), {
      ...config.descriptor,
      mediaType: OCTET_STREAM,
    })
    assert.deepEqual(await store.describe(huge.descriptor.digest, never), huge.descriptor)
    await waitFor('the first change', () => changes.length > 0)
    assert.equal(held.size, 0)
  })
})

test('containerd store recovers by itself after kill -9, and meanwhile keeps and serves what it had reported', async () => {
  const [before, later] = [makeImage({ seed: 31 }), makeImage({ seed: 32 })]
  await importImage(containerd, 'restart', before, NAME)
  await withStore('restart', async ({ store, held, changes, lines }) => {
    await waitFor('the image is held', () => holdsAll(held, keysOf(before)))
    assert.ok(store.isUp)
    await containerd.kill()
    try {
      await waitFor('the loss is noticed', () => !store.isUp)
      const told = changes.length
      for (const { descriptor, bytes } of before.contents) {
        assert.deepEqual(await store.describe(descriptor.digest, never), descriptor)
        const body = (await store.open(descriptor.digest, undefined, never)) ?? assert.fail('not held')
        assert.deepEqual(Buffer.from(await readBody(body)), Buffer.from(bytes))
      }
      await assert.rejects(store.resolve(REFERENCE, never), { name: 'ContainerdError', code: 'unavailable' })
      await waitFor('several attempts', () => eventsIn(lines, 'still does not answer').length > 1)
      assert.equal(changes.length, told)
    } finally {
      await containerd.start()
    }
    await waitFor('containerd is found again', () => store.isUp)
    assert.deepEqual(await store.describe(before.target.digest, never), before.target)
    await importImage(containerd, 'restart', later, `${NAME}-later`)
    await waitFor('events arrive again', () => holdsAll(held, [...keysOf(before), ...keysOf(later)]))
    assert.ok(changes.every(({ removed }) => removed.length === 0))
    assert.equal(eventsIn(lines, 'containerd does not answer').length, 1)
  })
})

test('containerd store waits for a containerd that starts later, but close does not', async () => {
  await containerd.stop()
  try {
    await withStore('early', async ({ store, changes, lines }) => {
      await waitFor('the reason', () =>
        eventsIn(lines, 'does not answer').some(({ fields }) => String(fields.error).includes('ENOENT')),
      )
      assert.ok(!store.isUp)
      assert.deepEqual(changes, [])
      await containerd.start()
      await waitFor('the first change', () => changes.length === 1)
      assert.ok(store.isUp)
      await containerd.stop()
      await waitFor('the loss', () => !store.isUp)
      await within('the end', store.close(), 3_000)
    })
  } finally {
    await containerd.start()
  }
})

test('containerd store reports a frozen containerd, and recovers', async () => {
  // If there is no file, the store knows without containerd that the content is missing.
  const blob = contentOf(OCTET_STREAM, new Uint8Array(10).fill(8))
  await ingest(containerd, 'frozen', blob)
  await withStore(
    'frozen',
    async ({ store }) => {
      await waitFor('the start', () => store.isUp)
      await containerd.freeze()
      try {
        await waitFor('the silence is noticed', () => !store.isUp)
        await assert.rejects(store.describe(blob.descriptor.digest, never), { code: 'timeout' })
      } finally {
        containerd.thaw()
      }
      await waitFor('containerd is found again', () => store.isUp)
    },
    { reconcileInterval: 100, restlessTime: 0 },
    1_000,
  )
})

test('containerd store ends a stream whose signal aborts or whose reader leaves', async () => {
  const large = contentOf(OCTET_STREAM, new Uint8Array(20_000_000).fill(9))
  await ingest(containerd, 'streams', large)
  await withStore(
    'streams',
    async ({ store }) => {
      const reason = new Error('enough')
      const controller = new AbortController()
      const body = await store.open(large.descriptor.digest, { start: 1, end: 15_000_000 }, controller.signal)
      assert.ok(body !== undefined && !(body instanceof FileSource))
      assert.ok(((await body.next())?.length ?? 0) > 0)
      controller.abort(reason)
      await assert.rejects(
        within(
          'the end',
          (async () => {
            while ((await body.next()) !== undefined);
          })(),
        ),
        reason,
      )

      const other = await store.open(large.descriptor.digest, undefined, never)
      assert.ok(other)
      await other.next()
      await within('the cancellation', other.cancel())
      assert.equal((await store.describe(large.descriptor.digest, never))?.size, large.bytes.length)
    },
    { contentRoot: '/var/empty/not-there' },
  )
})

for (const [runtime, ...args] of [['node'], ['deno', 'run', '--allow-all', '--no-check'], ['bun']] as const) {
  test(`containerd store and client leave nothing open on ${runtime}: the process ends by itself`, async () => {
    const large = contentOf(OCTET_STREAM, new Uint8Array(20_000_000).fill(8))
    await ingest(containerd, 'k8s.io', large)
    const root = join(import.meta.dirname, '..', '..')
    const script = join(root, 'tests', 'fixtures', 'containerd-child.ts')
    const child = spawn(join(root, 'node_modules', '.bin', runtime ?? ''), [
      ...args,
      script,
      containerd.socket,
      large.descriptor.digest,
    ])
    const output: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => output.push(chunk))
    try {
      const code = await within('the end of the process', new Promise((resolve) => child.on('close', resolve)))
      const text = Buffer.concat(output).toString()
      assert.equal(code, 0, text)
      assert.deepEqual(JSON.parse(text), { read: true, watchEnded: true, isUp: true })
    } finally {
      child.kill('SIGKILL')
    }
  })
}

test('containerd store neither holds nor serves content that its labels tell it to withhold', async () => {
  const image = makeImage({ seed: 31 })
  const { registry, repository } = makeProbeImage(5000)
  await importImage(containerd, 'probed', image, `${registry}/${repository}:1`)
  // containerd sets this label on content that it pulls.
  const source = `containerd.io/distribution.source.${registry}=${repository}`
  for (const { descriptor } of image.contents) {
    await containerd.ctr('probed', ['content', 'label', descriptor.digest, source])
  }
  // CRI makes such names, which do not tell where the image came from.
  await containerd.ctr('probed', ['images', 'tag', `${registry}/${repository}:1`, 'sha256:0'])
  await withStore(
    'probed',
    async ({ store, held, changes }) => {
      await waitFor('the first change', () => changes.length > 0)
      assert.deepEqual([...held], [])
      for (const { descriptor } of image.contents) {
        assert.equal(await store.describe(descriptor.digest, never), undefined)
        assert.equal(await store.open(descriptor.digest, undefined, never), undefined)
      }
      assert.equal(await store.resolve({ registry, repository, tag: '1' }, never), undefined)
    },
    { withholds: (labels) => probeOfLabels(labels) !== undefined },
  )
})

test('containerd store reports expected content as soon as it is complete, and no other', async () => {
  const image = makeImage({ seed: 60 })
  const [manifest, layer, other] = [image.contents[0], image.contents.at(-1), makeImage({ seed: 61 }).contents.at(-1)]
  assert.ok(manifest !== undefined && layer !== undefined && other !== undefined)
  await withStore('expected', async ({ store, held, changes }) => {
    await waitFor('the first change', () => changes.length > 0)
    store.expect?.(layer.descriptor.digest)
    await ingest(containerd, 'expected', other)
    await ingest(containerd, 'expected', layer)
    await waitFor('the layer is held', () => held.has(digestKey(layer.descriptor.digest)))
    assert.deepEqual([...held], [digestKey(layer.descriptor.digest)])
    const body = (await store.open(layer.descriptor.digest, undefined, never)) ?? assert.fail('not held')
    assert.deepEqual(Buffer.from(await readBody(body)), Buffer.from(layer.bytes))
    // The image comes, and goes with all its content.
    await importImage(containerd, 'expected', image, NAME)
    await waitFor('the image is held', () => holdsAll(held, keysOf(image)))
    await containerd.ctr('expected', ['content', 'label', layer.descriptor.digest, 'containerd.io/gc.root='])
    await removeImage(containerd, 'expected', image)
    await waitFor('nothing is held', () => held.size === 0)
  })
})
