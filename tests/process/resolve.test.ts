/** Who resolves: a mirror in its own process, beside a registry that comes and goes. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Status } from '../../lib/page/status.ts'
import type { TraceStep } from '../../lib/page/trace.ts'
import { makeImage } from '../fixtures/image.ts'
import { type TestMirror, withMirrors } from '../fixtures/mirror.ts'
import { PATIENCE, waitFor } from '../fixtures/wait.ts'

const REGISTRY = 'registry.example'
const TAG = `/v2/team/app/manifests/1?ns=${REGISTRY}`
const image = makeImage()
const MANIFEST = `/v2/team/app/manifests/${image.target.digest}?ns=${REGISTRY}`

/** A registry that demands credentials, as far as a mirror sees it. It keeps its port while it is down. */
class Upstream {
  readonly asked: Pick<IncomingMessage, 'method' | 'url' | 'headers'>[] = []
  #server: Server | undefined
  #port = 0

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => {
      this.asked.push(request)
      response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="upstream"' }).end()
    })
    server.listen(this.#port, '127.0.0.1')
    await once(server, 'listening')
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  async stop(): Promise<void> {
    this.#server?.close()
    this.#server?.closeAllConnections()
    await (this.#server && once(this.#server, 'close'))
    this.#server = undefined
  }
}

interface Scene {
  readonly upstream: Upstream
  /** The mirror that holds the image. */
  readonly holder: TestMirror
  /** A mirror that holds nothing. */
  readonly other: TestMirror
}

async function withScene(resolve: string, use: (scene: Scene) => Promise<void>): Promise<void> {
  const upstream = new Upstream()
  await upstream.start()
  try {
    await withMirrors(async (start, dir) => {
      const certs = join(dir, 'certs.d')
      await mkdir(join(certs, REGISTRY), { recursive: true })
      await writeFile(join(certs, REGISTRY, 'hosts.toml'), `server = "${upstream.url}"\n`)
      const flags = ['--resolve', resolve, '--certs-dir', certs]
      const holder = await start({ images: [{ image, names: [`${REGISTRY}/team/app:1`] }], flags })
      const other = await start({ bootstrap: [holder], flags })
      await waitFor('the image to be found', async () => (await other.get(MANIFEST)).ok)
      await use({ upstream, holder, other })
    })
  } finally {
    await upstream.stop()
  }
}

const headOf = async (mirror: TestMirror, path = TAG) => await mirror.get(path, { method: 'HEAD' })

/** Asks again until the mirror has noticed. */
const untilStatus = (mirror: TestMirror, status: number) =>
  waitFor(`the tag to be ${status}`, async () => (await headOf(mirror)).status === status)

async function statusOf(mirror: TestMirror): Promise<Status> {
  const response = await fetch(`http://${mirror.admin}/api/status`, { signal: AbortSignal.timeout(PATIENCE) })
  return (await response.json()) as Status
}

async function tracedOf(mirror: TestMirror): Promise<readonly TraceStep[]> {
  const response = await fetch(`http://${mirror.admin}/api/trace`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ reference: `${REGISTRY}/team/app:1` }),
    signal: AbortSignal.timeout(PATIENCE),
  })
  return (await response.text())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TraceStep)
}

test('mirror: upstream resolves while it answers, the swarm while it does not, and upstream again', () =>
  withScene('fallback', async ({ upstream, holder, other }) => {
    for (const mirror of [holder, other]) {
      for (const path of [TAG, MANIFEST]) assert.equal((await headOf(mirror, path)).status, 404)
      assert.equal((await mirror.get(MANIFEST)).status, 200)
    }
    const [registry] = (await statusOf(other)).registries
    assert.deepEqual([registry?.registry, registry?.state, registry?.resolvedBy], [REGISTRY, 'answers', 'upstream'])
    assert.equal(registry?.reason, `${upstream.url}: it answers 401`)
    assert.deepEqual((await tracedOf(other))[1], { step: 'resolve', by: 'upstream' })

    await upstream.stop()
    for (const mirror of [holder, other]) {
      await untilStatus(mirror, 200)
      for (const path of [TAG, MANIFEST]) {
        const { status, headers } = await headOf(mirror, path)
        assert.deepEqual([status, headers.get('x-swarmirror-resolved')], [200, 'swarm'])
        assert.equal(headers.get('docker-content-digest'), image.target.digest)
      }
    }
    assert.ok(
      other.lines.some((line) => line.includes('"event":"resolved by the swarm because upstream does not answer"')),
    )
    const metrics = await (await fetch(`http://${other.admin}/metrics`)).text()
    assert.match(metrics, /^swarmirror_upstream_up\{registry="registry\.example"\} 0$/m)
    assert.equal((await statusOf(other)).registries[0]?.resolvedBy, 'swarm')
    assert.deepEqual((await tracedOf(other))[1], { step: 'resolve', by: 'swarm' })

    await upstream.start()
    for (const mirror of [holder, other]) await untilStatus(mirror, 404)
    for (const { method, url, headers } of upstream.asked) {
      assert.deepEqual([method, url, headers.authorization], ['GET', '/v2/', undefined])
    }
  }))

test('mirror: with --resolve upstream nobody else resolves, also while it is down', () =>
  withScene('upstream', async ({ upstream, holder, other }) => {
    await upstream.stop()
    for (const mirror of [holder, other]) {
      for (const path of [TAG, MANIFEST]) assert.equal((await headOf(mirror, path)).status, 404)
      assert.equal((await mirror.get(MANIFEST)).status, 200)
    }
    assert.deepEqual(upstream.asked, [])
    assert.deepEqual((await statusOf(other)).registries, [])
  }))

test('mirror: on any free port, its own entry in hosts.toml is no upstream', () =>
  withMirrors(async (start, dir) => {
    const certs = join(dir, 'certs.d')
    const images = [{ image, names: [`${REGISTRY}/team/app:1`] }]
    const mirror = await start({ images, flags: ['--resolve', 'fallback', '--certs-dir', certs] })
    await mkdir(join(certs, REGISTRY), { recursive: true })
    const lines = ['server = "http://127.0.0.1:1"', `[host."http://${mirror.registry}"]`]
    await writeFile(join(certs, REGISTRY, 'hosts.toml'), lines.join('\n'))
    const { status, headers } = await headOf(mirror)
    assert.deepEqual([status, headers.get('x-swarmirror-resolved')], [200, 'swarm'])
  }))
