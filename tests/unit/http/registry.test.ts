import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPolicy } from '../../../lib/oci/policy.ts'
import { type DoorSetup, type Doors, withDoors } from '../../fixtures/door.ts'
import { contentOf, DOCKER, digestOf, makeImage, makeIndex } from '../../fixtures/image.ts'

const NAME = 'registry.example:5000/team/app:1.2'
const NS = 'ns=registry.example:5000'
const image = makeIndex([
  makeImage({ seed: 1, layers: 1 }),
  makeImage({ seed: 2, layers: 1, mediaTypes: DOCKER, platform: { os: 'linux', architecture: 'arm64' } }),
])
const [index, manifest] = image.contents
const layer = image.contents.at(-1)
assert.ok(index !== undefined && manifest !== undefined && layer !== undefined)
const ABSENT = digestOf(new Uint8Array([1, 2, 3]))

/** The same image at the node and at a peer: the answers may differ only in their source. */
const HOLDERS = [
  ['local', { local: [image, NAME] }],
  ['peer', { remote: [image, NAME] }],
] satisfies [string, DoorSetup][]

function pathOf({ descriptor }: (typeof image.contents)[number]): string {
  const kind = /manifest|index/.test(descriptor.mediaType) ? 'manifests' : 'blobs'
  return `/v2/team/app/${kind}/${descriptor.digest}?${NS}`
}

async function bytesOf(response: Response): Promise<Buffer> {
  return Buffer.from(await response.arrayBuffer())
}

async function errorsOf(response: Response): Promise<{ code: string; message: string }[]> {
  assert.equal(response.headers.get('content-type'), 'application/json')
  const text = await response.text()
  assert.equal(response.headers.get('content-length'), String(Buffer.byteLength(text)))
  return (JSON.parse(text) as { errors: { code: string; message: string }[] }).errors
}

const empty = contentOf(layer.descriptor.mediaType, new Uint8Array())
const withEmpty = { ...image, contents: [...image.contents, empty] }

for (const [source, setup] of [
  ['local', { local: [withEmpty, NAME] }],
  ['peer', { remote: [withEmpty, NAME] }],
] satisfies [string, DoorSetup][]) {
  test(`registry door: a blob without a byte is content like any other (${source})`, () =>
    withDoors(setup, async ({ listen }) => {
      const { port } = await listen()
      const ask = (init?: RequestInit) => fetch(`http://127.0.0.1:${port}${pathOf(empty)}`, init)
      for (const method of ['HEAD', 'GET', 'GET']) {
        const response = await ask({ method })
        assert.equal(response.status, 200)
        assert.equal(response.headers.get('content-length'), '0')
        assert.equal(response.headers.get('docker-content-digest'), empty.descriptor.digest)
        assert.equal(response.headers.get('x-swarmirror-source'), source)
        assert.equal((await bytesOf(response)).length, 0)
      }
      for (const [range, status, told] of [
        ['bytes=0-', 200, null],
        ['bytes=1-', 416, 'bytes */0'],
      ] as const) {
        const part = await ask({ headers: { range } })
        assert.deepEqual([part.status, part.headers.get('content-range')], [status, told])
        assert.equal((await bytesOf(part)).length, 0)
      }
    }))
}

for (const [source, setup] of HOLDERS) {
  const check = (what: string, body: (doors: Doors) => Promise<void>) =>
    test(`registry door: ${what} (${source})`, () => withDoors(setup, body))

  check('GET of everything by digest gives the bytes and exactly the headers that belong to them', async ({ ask }) => {
    for (const content of image.contents) {
      const { mediaType, digest, size } = content.descriptor
      const response = await ask(pathOf(content))
      assert.equal(response.status, 200)
      assert.deepEqual(Object.fromEntries(response.headers), {
        'accept-ranges': 'bytes',
        'content-length': String(size),
        'content-type': mediaType,
        'docker-content-digest': digest,
        etag: `"${digest}"`,
        'x-swarmirror-source': source,
      })
      assert.deepEqual(await bytesOf(response), Buffer.from(content.bytes))
    }
  })

  check('GET of a manifest by tag gives what the tag points to', async ({ ask }) => {
    const response = await ask(`/v2/team/app/manifests/1.2?${NS}`)
    assert.equal(response.status, 200)
    assert.equal(response.headers.get('docker-content-digest'), index.descriptor.digest)
    assert.equal(response.headers.get('content-type'), index.descriptor.mediaType)
    assert.deepEqual(await bytesOf(response), Buffer.from(index.bytes))
  })

  check('HEAD gives the headers of GET and no body, for content, tags and errors', async ({ ask }) => {
    const paths = [...image.contents.map(pathOf), `/v2/team/app/manifests/1.2?${NS}`, '/v2/']
    const errors = [`/v2/team/app/blobs/${ABSENT}?${NS}`, '/v2/team/app/manifests/..', '/v2/x/tags/list']
    for (const path of [...paths, ...errors]) {
      const got = await ask(path)
      const head = await ask(path, { method: 'HEAD' })
      assert.equal(head.status, got.status, path)
      assert.deepEqual(Object.fromEntries(head.headers), Object.fromEntries(got.headers), path)
      assert.equal(head.body, null)
      await got.body?.cancel()
    }
  })

  check('Range gives the part that it asks for', async ({ ask }) => {
    const { size, digest } = layer.descriptor
    for (const [range, start, end] of [
      ['bytes=0-0', 0, 0],
      ['bytes=7-99', 7, 99],
      // Longer than the head of a request to a peer may be.
      [`bytes=${','.repeat(17_000)}7-99`, 7, 99],
      ['bytes=100-', 100, size - 1],
      [`bytes=${size - 1}-`, size - 1, size - 1],
      ['bytes=-5', size - 5, size - 1],
      ['bytes=-99999999', 0, size - 1],
      ['bytes=10-99999999', 10, size - 1],
    ] satisfies [string, number, number][]) {
      const response = await ask(pathOf(layer), { headers: { range } })
      assert.equal(response.status, 206, range)
      assert.equal(response.headers.get('content-range'), `bytes ${start}-${end}/${size}`)
      assert.equal(response.headers.get('content-length'), String(end - start + 1))
      assert.equal(response.headers.get('docker-content-digest'), digest)
      assert.equal(response.headers.get('content-type'), layer.descriptor.mediaType)
      assert.deepEqual(await bytesOf(response), Buffer.from(layer.bytes.subarray(start, end + 1)))
    }
  })

  check('Range that no byte satisfies is a 416 that says the size', async ({ ask }) => {
    const { size } = layer.descriptor
    for (const range of [`bytes=${size}-`, `bytes=${size + 1}-${size + 5}`, 'bytes=-0']) {
      const response = await ask(pathOf(layer), { headers: { range } })
      assert.equal(response.status, 416, range)
      assert.equal(response.headers.get('content-range'), `bytes */${size}`)
      assert.equal(response.headers.get('content-length'), '0')
      assert.equal((await bytesOf(response)).length, 0)
    }
  })

  check('Range that is malformed, of another unit, for several parts or for everything is ignored', async ({ ask }) => {
    for (const range of [
      'bytes=0-',
      'bytes=0-1,5-6',
      'bytes=5-1',
      'bytes=x',
      'bytes=-',
      'lines=1-2',
      'bytes 1-2',
      '',
    ]) {
      const response = await ask(pathOf(layer), { headers: { range } })
      assert.equal(response.status, 200, range)
      assert.equal(response.headers.get('content-range'), null)
      assert.equal((await bytesOf(response)).length, layer.bytes.length)
    }
  })

  check('Range is ignored for manifests and for HEAD', async ({ ask }) => {
    const headers = { range: 'bytes=0-1' }
    const whole = await ask(pathOf(manifest), { headers })
    assert.equal(whole.status, 200)
    assert.equal((await bytesOf(whole)).length, manifest.bytes.length)
    const head = await ask(pathOf(layer), { method: 'HEAD', headers })
    assert.equal(head.status, 200)
    assert.equal(head.headers.get('content-length'), String(layer.bytes.length))
    const beyond = await ask(pathOf(layer), { method: 'HEAD', headers: { range: 'bytes=99999999-' } })
    assert.equal(beyond.status, 200)
  })

  check('If-Range lets a Range count only for this very content', async ({ ask }) => {
    const etag = `"${layer.descriptor.digest}"`
    for (const [ifRange, status] of [
      [etag, 206],
      [`W/${etag}`, 200],
      ['"other"', 200],
      ['Wed, 21 Oct 2015 07:28:00 GMT', 200],
    ] satisfies [string, number][]) {
      const response = await ask(pathOf(layer), { headers: { range: 'bytes=1-2', 'if-range': ifRange } })
      assert.equal(response.status, status, ifRange)
      assert.equal((await bytesOf(response)).length, status === 206 ? 2 : layer.bytes.length)
    }
  })

  check('If-None-Match of the content is a 304 for GET, never for HEAD', async ({ ask }) => {
    for (const content of [index, layer]) {
      const etag = `"${content.descriptor.digest}"`
      for (const value of [etag, `"x", W/${etag}`, '*']) {
        const headers = { 'if-none-match': value }
        const response = await ask(pathOf(content), { headers })
        assert.equal(response.status, 304, value)
        assert.equal(response.headers.get('etag'), etag)
        assert.equal(response.body, null)
        assert.equal((await ask(pathOf(content), { method: 'HEAD', headers })).status, 200)
      }
      const other = await ask(pathOf(content), { headers: { 'if-none-match': '"x"' } })
      assert.equal(other.status, 200)
      await other.body?.cancel()
    }
  })

  check(
    'If-Match of other content is a 412, for GET and HEAD, and comes before every other condition',
    async ({ ask }) => {
      for (const content of [index, layer]) {
        const etag = `"${content.descriptor.digest}"`
        for (const method of ['GET', 'HEAD']) {
          const status = async (ifMatch: string, more: Record<string, string> = {}) => {
            const response = await ask(pathOf(content), { method, headers: { 'if-match': ifMatch, ...more } })
            await response.body?.cancel()
            return response.status
          }
          for (const value of [etag, `"x", ${etag}`, '*']) assert.equal(await status(value), 200, value)
          for (const value of ['"x"', `W/${etag}`, '']) {
            assert.equal(await status(value), 412, value)
            assert.equal(await status(value, { 'if-none-match': etag, range: 'bytes=99999999-' }), 412, value)
          }
        }
      }
    },
  )

  check('a condition on a tag is about the content that the tag points to', async ({ ask }) => {
    const path = `/v2/team/app/manifests/1.2?${NS}`
    const etag = `"${index.descriptor.digest}"`
    assert.equal((await ask(path, { headers: { 'if-none-match': etag } })).status, 304)
    assert.equal((await ask(path, { headers: { 'if-match': '"x"' } })).status, 412)
    assert.equal((await ask(path, { headers: { 'if-match': etag } })).status, 200)
  })

  check('a condition that is not met counts before a Range that no byte satisfies', async ({ ask }) => {
    const etag = `"${layer.descriptor.digest}"`
    const range = 'bytes=99999999-'
    const status = async (headers: Record<string, string>) => (await ask(pathOf(layer), { headers })).status
    assert.equal(await status({ range, 'if-none-match': etag }), 304)
    assert.equal(await status({ range, 'if-none-match': '"x"' }), 416)
    assert.equal(await status({ range, 'if-none-match': etag, 'if-range': '"x"' }), 304)
  })

  check('a condition on content that nobody has is a 404', async ({ ask }) => {
    for (const headers of [{ 'if-none-match': '*' }, { 'if-match': '"x"' }, { 'if-none-match': `"${ABSENT}"` }]) {
      assert.equal((await ask(`/v2/team/app/blobs/${ABSENT}?${NS}`, { headers })).status, 404)
    }
  })

  check('a manifest is not served under blobs, nor a blob under manifests', async ({ ask }) => {
    for (const [path, code] of [
      [`/v2/team/app/blobs/${index.descriptor.digest}?${NS}`, 'BLOB_UNKNOWN'],
      [`/v2/team/app/blobs/${manifest.descriptor.digest}?${NS}`, 'BLOB_UNKNOWN'],
      [`/v2/team/app/manifests/${layer.descriptor.digest}?${NS}`, 'MANIFEST_UNKNOWN'],
    ] satisfies [string, string][]) {
      const response = await ask(path)
      assert.equal(response.status, 404)
      assert.equal((await errorsOf(response))[0]?.code, code)
    }
  })

  check('the registry is `ns`, or else a first component that looks like one', async ({ ask }) => {
    for (const [path, status] of [
      [`/v2/team/app/manifests/1.2?${NS}`, 200],
      ['/v2/registry.example:5000/team/app/manifests/1.2', 200],
      [`/v2/team/app/manifests/1.2?${NS.replaceAll(':', '%3A')}`, 200],
      ['/v2/team/app/manifests/1.2?ns=REGISTRY.EXAMPLE:5000', 200],
      ['/v2/team/app/manifests/1.2', 404],
      ['/v2/team/app/manifests/1.2?ns=registry.example', 404],
      ['/v2/team/app/manifests/1.2?ns=docker.io', 404],
      ['/v2/registry.example/team/app/manifests/1.2', 404],
      ['/v2/team/app/manifests/1.2?ns=', 400],
      ['/v2/team/app/manifests/1.2?ns=../..', 400],
      ['/v2/team/app/manifests/1.2?ns=a%2Fb', 400],
      ['/v2/team/app/manifests/1.2?ns=%00', 400],
    ] satisfies [string, number][]) {
      const response = await ask(path)
      assert.equal(response.status, status, path)
      await response.body?.cancel()
    }
  })

  check('nothing is ever content-encoded, whatever is accepted', async ({ listen }) => {
    const { port } = await listen()
    for (const content of image.contents) {
      const headers = {
        'accept-encoding': 'zstd, gzip, deflate, br, *',
        accept: `${content.descriptor.mediaType}, */*`,
      }
      const response = await fetch(`http://127.0.0.1:${port}${pathOf(content)}`, { headers })
      assert.equal(response.headers.get('content-encoding'), null)
      assert.equal(response.headers.get('transfer-encoding'), null)
      assert.equal(response.headers.get('content-length'), String(content.bytes.length))
      assert.deepEqual(await bytesOf(response), Buffer.from(content.bytes))
    }
  })

  test(`registry door: only what the policy admits is served (${source})`, async () => {
    const tag = `/v2/team/app/manifests/1.2?${NS}`
    for (const [what, policy, served] of [
      ['all', createPolicy(), [true, true]],
      ['this registry', createPolicy({ registries: new Set(['registry.example:5000']) }), [true, true]],
      ['other registries', createPolicy({ registries: new Set(['registry.example', 'docker.io']) }), [false, false]],
      ['not this tag', createPolicy({ exclude: [/^registry\.example:5000\/team\/app:1\.2$/] }), [false, true]],
      ['not this repository', createPolicy({ exclude: [/^registry\.example:5000\/team\/app:/] }), [false, false]],
      ['no tags', createPolicy({ resolvesTags: false }), [false, true]],
    ] satisfies [string, ReturnType<typeof createPolicy>, [boolean, boolean]][]) {
      await withDoors({ ...setup, policy }, async ({ ask }) => {
        for (const [position, path] of [tag, pathOf(layer)].entries()) {
          const response = await ask(path)
          assert.equal(response.status, served[position] ? 200 : 404, `${what}: ${path}`)
          await response.body?.cancel()
        }
      })
    }
  })
}

test('registry door: the base endpoint says that this is a registry', async () => {
  await withDoors({}, async ({ ask }) => {
    for (const path of ['/v2/', '/v2']) {
      const response = await ask(path)
      assert.equal(response.status, 200)
      assert.equal(response.headers.get('docker-distribution-api-version'), 'registry/2.0')
      assert.equal(await response.text(), '{}')
    }
  })
})

test('registry door: content that nobody has is a 404 in the form of the spec', async () => {
  await withDoors({}, async ({ ask, lines }) => {
    for (const [path, code, what] of [
      [`/v2/team/app/blobs/${ABSENT}`, 'BLOB_UNKNOWN', ABSENT],
      [`/v2/team/app/manifests/${ABSENT}`, 'MANIFEST_UNKNOWN', ABSENT],
      ['/v2/team/app/manifests/1.2?ns=docker.io', 'MANIFEST_UNKNOWN', '1.2'],
    ] satisfies [string, string, string][]) {
      const response = await ask(path)
      assert.equal(response.status, 404)
      const [error] = await errorsOf(response)
      assert.equal(error?.code, code)
      assert.ok(error?.message.includes(what) && error.message.includes('docker.io/team/app'), error?.message)
    }
    assert.ok(lines.every(({ level }) => level === 'debug'))
  })
})

for (const [source, holder] of [
  ['local', 'local'],
  ['peer', 'remote'],
] as const) {
  test(`registry door: without a registry only a digest means something, unless there is a default (${source})`, async () => {
    const hub = { [holder]: [image, 'docker.io/team/app:1.2'] }
    const [tag, digest] = ['/v2/team/app/manifests/1.2', `/v2/team/app/manifests/${index.descriptor.digest}`]
    const blob = `/v2/team/app/blobs/${layer.descriptor.digest}`
    for (const [defaultRegistry, status] of [
      [undefined, 404],
      ['docker.io', 200],
      ['registry.example', 404],
    ] as const) {
      await withDoors({ ...hub, defaultRegistry }, async ({ ask }) => {
        for (const method of ['GET', 'HEAD']) {
          assert.equal((await ask(tag, { method })).status, status, `${defaultRegistry}`)
          for (const path of [digest, blob, `${tag}?ns=docker.io`, '/v2/docker.io/team/app/manifests/1.2']) {
            const response = await ask(path, { method })
            assert.equal(response.status, 200, `${defaultRegistry}: ${path}`)
            await response.body?.cancel()
          }
        }
        if (defaultRegistry === undefined) {
          const [error] = await errorsOf(await ask(tag))
          assert.match(error?.message ?? '', /team\/app:1\.2 names no registry.*--default-registry/)
        }
      })
    }
  })
}

test('registry door: endpoints that it does not have are UNSUPPORTED', async () => {
  await withDoors({}, async ({ ask }) => {
    for (const path of [
      '/',
      '/v1/',
      '/v2/team/app/tags/list',
      '/v2/_catalog',
      `/v2/team/app/referrers/${ABSENT}`,
      '/v2/team/app/blobs/uploads/1',
      '/v2/team/app',
    ]) {
      const response = await ask(path)
      assert.equal(response.status, 404, path)
      assert.equal((await errorsOf(response))[0]?.code, 'UNSUPPORTED')
    }
  })
})

test('registry door: every method but GET and HEAD is a 405 that says what is allowed', async () => {
  await withDoors({ local: [image, NAME] }, async ({ ask }) => {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      for (const path of ['/v2/', '/v2/team/app/blobs/uploads/', pathOf(layer), pathOf(manifest), '/elsewhere']) {
        const response = await ask(path, { method })
        assert.equal(response.status, 405, `${method} ${path}`)
        assert.equal(response.headers.get('allow'), 'GET, HEAD')
        assert.equal((await errorsOf(response))[0]?.code, 'UNSUPPORTED')
      }
    }
  })
})
