import assert from 'node:assert/strict'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type ContainerdClient, connectContainerd } from '../../lib/containerd/client/client.ts'
import { ContainerdError, type ContainerdErrorCode } from '../../lib/containerd/client/error.ts'
import type { ContainerdEvent } from '../../lib/containerd/client/events.ts'
import { importImage, ingest, removeImage, startContainerd } from '../fixtures/containerd.ts'
import { contentOf, digestOf, makeImage, withTemporaryDirectory } from '../fixtures/image.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const containerd = await startContainerd({ sharing: 'isolated' })
after(() => containerd.close())

const never = new AbortController().signal
const NAME = 'registry.example:5000/team/app:1.2'

/** Larger than the 1 MiB that containerd reads at a time, and not a multiple of it. */
const large = contentOf('application/octet-stream', new Uint8Array(5_000_003).fill(7))

async function withClient(
  namespace: string,
  use: (client: ContainerdClient) => Promise<void>,
  options: Parameters<typeof connectContainerd>[1] = {},
): Promise<void> {
  const connection = connectContainerd(containerd.socket, options)
  try {
    await use(connection.in(namespace))
  } finally {
    connection.close()
  }
}

function failsWith(code: ContainerdErrorCode): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ContainerdError, String(error))
    assert.equal(error.code, code, error.message)
    return true
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

test('version and contentRoot say what runs there, and where its files are', async () => {
  await withClient('one', async (client) => {
    assert.match((await client.version(never)).version, /^\d+\.\d+\.\d+/)
    assert.equal(await client.contentRoot(never), containerd.contentRoot)
  })
})

test('server tells a restarted containerd from the one before', async () => {
  await withClient('one', async (client) => {
    const before = await client.server(never)
    assert.deepEqual(await client.server(never), before)
    await containerd.stop()
    await containerd.start()
    const after = await client.server(never)
    assert.equal(after.uuid, before.uuid)
    assert.notEqual(after.pid, before.pid)
  })
})

test('deleteImage removes an image together with its content', async () => {
  const image = makeImage({ seed: 9 })
  await importImage(containerd, 'doomed', image, NAME)
  await withClient('doomed', async (client) => {
    assert.deepEqual([await client.deleteImage(NAME, never), await client.deleteImage(NAME, never)], [true, false])
    assert.deepEqual(await collect(client.listContent(never)), [])
  })
})

test('CRI reports its version, and pulls until its signal aborts', async () => {
  const connection = connectContainerd(containerd.socket)
  const { cri } = connection
  try {
    const { name, version } = await cri.version(never)
    assert.equal(name, 'containerd')
    assert.match(version, /^\d+\.\d+/)
    await cri.removeImage('registry.example/team/unknown:1', never)
    await assert.rejects(
      cri.pullImage('127.0.0.1:9/team/unknown:1', never),
      (error) => error instanceof ContainerdError,
    )
    const reason = new Error('enough')
    await assert.rejects(cri.pullImage('127.0.0.1:9/team/unknown:1', AbortSignal.abort(reason)), reason)
  } finally {
    connection.close()
  }
  await assert.rejects(cri.version(never), failsWith('closed'))
})

test('contentInfo, listContent, image and images see their own namespace only', async () => {
  const image = makeImage({ seed: 1 })
  await importImage(containerd, 'one', image, NAME)
  await withClient('one', async (client) => {
    assert.ok((await client.namespaces(never)).includes('one'))
    assert.deepEqual(await client.image(NAME, never), { name: NAME, target: image.target })
    assert.deepEqual(await client.images(never), [{ name: NAME, target: image.target }])
    const listed = await collect(client.listContent(never))
    for (const { descriptor } of image.contents) {
      const info = await client.contentInfo(descriptor.digest, never)
      assert.equal(info?.size, descriptor.size)
      assert.deepEqual(
        listed.find(({ digest }) => digest === descriptor.digest),
        info,
      )
    }
  })
  await withClient('two', async (client) => {
    assert.equal(await client.contentInfo(image.target.digest, never), undefined)
    assert.equal(await client.image(NAME, never), undefined)
    assert.deepEqual(await client.images(never), [])
    assert.deepEqual(await collect(client.listContent(never)), [])
    const reading = collect(client.readContent(image.target.digest, { offset: 0, size: image.target.size }, never))
    await assert.rejects(reading, failsWith('not-found'))
  })
})

test('readContent gives exactly the bytes asked for', async () => {
  await ingest(containerd, 'one', large)
  const { digest, size } = large.descriptor
  await withClient('one', async (client) => {
    for (const [offset, count] of [
      [0, size],
      [1, 1],
      [1_048_575, 2_097_153],
      [size - 1, 1],
    ] as const) {
      const pieces = await collect(client.readContent(digest, { offset, size: count }, never))
      assert.deepEqual(digestOf(Buffer.concat(pieces)), digestOf(large.bytes.subarray(offset, offset + count)))
    }
    assert.deepEqual(await collect(client.readContent(digest, { offset: 5, size: 0 }, never)), [])
  })
})

test('readContent without a reader does not hold up other calls', async () => {
  await ingest(containerd, 'one', large)
  const { digest, size } = large.descriptor
  await withClient('one', async (client) => {
    const slow = [1, 2, 3].map(() => client.readContent(digest, { offset: 0, size }, never)[Symbol.asyncIterator]())
    for (const reader of slow) assert.equal((await reader.next()).done, false)
    const pieces = await collect(client.readContent(digest, { offset: 0, size }, never))
    assert.equal(Buffer.concat(pieces).length, size)
    assert.equal((await client.contentInfo(digest, never))?.size, size)
    for (const reader of slow) await reader.return?.()
  })
})

test('readContent and unary calls end with the reason of their signal', async () => {
  await ingest(containerd, 'one', large)
  await withClient('one', async (client) => {
    const reason = new Error('enough')
    const controller = new AbortController()
    const reader = client
      .readContent(large.descriptor.digest, { offset: 0, size: large.descriptor.size }, controller.signal)
      [Symbol.asyncIterator]()
    await reader.next()
    controller.abort(reason)
    await assert.rejects(async () => {
      // The stream may still deliver what it received before.
      while (!(await reader.next()).done);
    }, reason)
    await assert.rejects(client.version(AbortSignal.abort(reason)), reason)
  })
})

test('subscribe reports images of its namespace that change after it resolved', async () => {
  const image = makeImage({ seed: 2 })
  await withClient('three', async (client) => {
    const told: ContainerdEvent[] = []
    const stream = await client.subscribe(['/images/create', '/images/update', '/images/delete'], never)
    const listening = (async () => {
      for await (const event of stream) {
        told.push(event)
        if (event.topic === '/images/delete') return
      }
    })()
    await importImage(containerd, 'four', image, NAME)
    await importImage(containerd, 'three', image, NAME)
    await removeImage(containerd, 'three', image)
    await within('the event of the removal', listening)
    assert.deepEqual(told[0], { topic: '/images/create' })
    assert.deepEqual(told.at(-1), { topic: '/images/delete' })
    assert.equal(told.filter(({ topic }) => topic === '/images/create').length, 1)
  })
})

test('calls fail as unavailable while containerd is away, and work again on the same client after kill -9', async () => {
  await withClient('one', async (client) => {
    const stream = await client.subscribe(['/images/create'], never)
    const ended = assert.rejects(collect(stream), failsWith('unavailable'))
    await containerd.kill()
    try {
      await within('the end of the subscription', ended)
      await assert.rejects(client.version(never), failsWith('unavailable'))
      await assert.rejects(client.subscribe(['/images/create'], never), failsWith('unavailable'))
    } finally {
      await containerd.start()
    }
    assert.match((await client.version(never)).version, /^\d/)
  })
})

test('calls fail in time when containerd is frozen, and work again when it resumes', async () => {
  await ingest(containerd, 'one', large)
  const bounds = { callTimeout: 200, stallTimeout: 200 }
  await withClient(
    'one',
    async (client) => {
      await waitFor('an answer in so short a time', () => client.version(never).catch(() => undefined))
      await containerd.freeze()
      try {
        await assert.rejects(client.version(never), failsWith('timeout'))
        await assert.rejects(client.subscribe(['/images/create'], never), failsWith('timeout'))
        await assert.rejects(collect(client.listContent(never)), failsWith('timeout'))
        const reading = client.readContent(large.descriptor.digest, { offset: 0, size: 10 }, never)
        await assert.rejects(collect(reading), failsWith('timeout'))
      } finally {
        containerd.thaw()
      }
      await waitFor('an answer', () => client.version(never).catch(() => undefined))
    },
    bounds,
  )
})

test('calls fail in time at a socket whose server does not speak gRPC', async () => {
  await withTemporaryDirectory(async (directory) => {
    const socket = join(directory, 'silent.sock')
    const server = createServer((connection) => connection.resume())
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    const connection = connectContainerd(socket, { callTimeout: 200 })
    try {
      await assert.rejects(connection.in('one').version(never), failsWith('timeout'))
    } finally {
      connection.close()
      await new Promise((resolve) => server.close(resolve))
    }
  })
})

test('calls fail as unavailable at a socket that is not there', async () => {
  await withTemporaryDirectory(async (directory) => {
    const connection = connectContainerd(join(directory, 'none.sock'))
    await assert.rejects(connection.in('one').version(never), failsWith('unavailable'))
    connection.close()
  })
})

test('close ends running calls at once and refuses later ones', async () => {
  const connection = connectContainerd(containerd.socket)
  const client = connection.in('one')
  const stream = await client.subscribe(['/images/create'], never)
  const ended = assert.rejects(collect(stream), failsWith('closed'))
  connection.close()
  await within('the end of the subscription', ended)
  await assert.rejects(client.version(never), failsWith('closed'))
  connection.close()
})

test('all namespaces and CRI share one connection, and close ends it', async () => {
  await withTemporaryDirectory(async (directory) => {
    const socket = join(directory, 'counted.sock')
    let open = 0
    const server = createServer((connection) => {
      open += 1
      const upstream = connect(containerd.socket)
      connection.on('close', () => {
        open -= 1
        upstream.destroy()
      })
      connection.on('error', () => upstream.destroy())
      upstream.on('error', () => connection.destroy())
      connection.pipe(upstream).pipe(connection)
    })
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    const connection = connectContainerd(socket)
    try {
      await connection.in('one').version(never)
      await connection.in('two').subscribe(['/images/create'], never)
      await connection.cri.version(never)
      assert.equal(open, 1)
      connection.close()
      await waitFor('the connection is closed', () => open === 0)
    } finally {
      connection.close()
      await new Promise((resolve) => server.close(resolve))
    }
  })
})
