/**
 * Serving and proxying a blob of 1 GiB beside nginx, memory, and the first byte of a miss that one of 20 peers can fill, on
 * each runtime named or on all three:
 *
 *   node tests/bench/serve.ts [node] [deno] [bun]
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { link, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { Agent, get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import type { Digest } from '../../lib/oci/digest.ts'
import { digestKey } from '../../lib/oci/key.ts'
import { contentOf, makeImage } from '../../lib/oci/make-image.ts'
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from '../../lib/oci/media-type.ts'
import { createCredentials } from '../../lib/peers/credentials.ts'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { LOOPBACK_SWARM_KEY } from '../../lib/swarm/topic.ts'
import type { MirrorProcess } from '../fixtures/mirror-process.ts'
import { RUNTIMES } from '../fixtures/programs.ts'
import { cpuSeconds, median, printTable, quantile, residentMebibytes, watchMemory } from './figures.ts'
import { startLayoutMirror, startNginx } from './servers.ts'

const SIZE = 2 ** 30
const ROUNDS = 5
const credentials = createCredentials([LOOPBACK_SWARM_KEY])
/** curl has no certificate of the swarm. */
const PLAIN = ['--peer-transfer', 'plain']
const PEERS = 20
const LAYERS_PER_PEER = 25

const names = process.argv.slice(2)
const runtimes = (names.length > 0 ? names : Object.keys(RUNTIMES)) as RuntimeName[]
const unknown = runtimes.find((name) => !Object.hasOwn(RUNTIMES, name))
if (unknown !== undefined)
  throw new Error(`unknown runtime ${unknown}; accepted are ${Object.keys(RUNTIMES).join(', ')}`)
await using parts = new AsyncDisposableStack()
const dir = await mkdtemp(join(tmpdir(), 'swarmirror-bench-'))
parts.defer(() => rm(dir, { recursive: true, force: true }))

await benchServing()
for (const runtime of runtimes) await benchMisses(runtime)

/** A measured server, and the URL of its blob. */
interface Subject {
  readonly name: string
  readonly pid: number
  readonly url: string
  /** The headers of each request: a peer door demands a new capability. */
  readonly headers: () => readonly (readonly [name: string, value: string])[]
  readonly rates: number[]
  readonly cpu: number[]
  readonly idle: number
  growth: number
}

function subject(name: string, pid: number, url: string, headers: Subject['headers'] = () => []): Subject {
  return { name, pid, url, headers, rates: [], cpu: [], idle: residentMebibytes(pid), growth: 0 }
}

/** One file of 1 GiB, over loopback, by curl: nginx and each door of the mirrors in turns. */
async function benchServing(): Promise<void> {
  await using servers = new AsyncDisposableStack()
  const layout = join(dir, 'big')
  const digest = await writeBigLayout(layout)
  const empty = join(dir, 'none')
  await writeLayout(empty, [])
  const files = join(dir, 'files')
  await mkdir(files)
  await link(join(layout, 'blobs', 'sha256', digest.slice('sha256:'.length)), join(files, 'blob'))
  const nginx = await startNginx(join(dir, 'nginx'), files)
  servers.defer(() => nginx.stop())
  const subjects = [subject('nginx, from a file', nginx.pid, `${nginx.url}/blob`)]
  const path = `/v2/bench/big/blobs/${digest}?ns=bench.example`
  for (const runtime of runtimes) {
    const holder = await startLayoutMirror(runtime, layout, PLAIN)
    servers.defer(() => holder.kill())
    const flags = [...PLAIN, '--bootstrap', holder.peer, '--lookup-timeout', '1s']
    const asker = await startLayoutMirror(runtime, empty, flags)
    servers.defer(() => asker.kill())
    subjects.push(
      subject(`${runtime}, from a file, registry door`, holder.pid, `http://${holder.registry}${path}`),
      subject(`${runtime}, from a file, peer door`, holder.pid, `http://${holder.peer}${path}`, () =>
        Object.entries(credentials.ticket(digestKey(digest), 'GET', holder.peer).headers),
      ),
      subject(`${runtime}, from a peer, registry door`, asker.pid, `http://${asker.registry}${path}`),
    )
  }
  for (let round = 0; round <= ROUNDS; round++) {
    for (const one of subjects) {
      const memory = watchMemory(one.pid)
      const before = cpuSeconds(one.pid)
      const seconds = await download(one.url, one.headers())
      const { growth } = memory.stop()
      one.growth = Math.max(one.growth, growth)
      // The first round warms up the page cache and the compilers; only its memory counts.
      if (round === 0) continue
      one.rates.push(SIZE / 1e9 / seconds)
      one.cpu.push((cpuSeconds(one.pid) - before) / (SIZE / 1e9))
    }
  }
  const [reference] = subjects
  const ratio = (own: readonly number[], other: readonly number[] = []) => (median(own) / median(other)).toFixed(2)
  console.log(`\nA blob of 1 GiB over loopback, median of ${ROUNDS} rounds in turns:\n`)
  printTable(
    ['server', 'GB/s', 'of nginx', 'CPU s/GB', 'of nginx', 'idle MiB', 'growth MiB (most)'],
    subjects.map(({ name, rates, cpu, idle, growth }) => [
      name,
      median(rates).toFixed(2),
      ratio(rates, reference?.rates),
      median(cpu).toFixed(2),
      ratio(cpu, reference?.cpu),
      idle.toFixed(0),
      growth.toFixed(1),
    ]),
  )
}

/** Writes a layout whose only layer has SIZE bytes, without holding them in memory. */
async function writeBigLayout(layout: string): Promise<Digest> {
  await writeLayout(layout, [])
  const partial = join(layout, 'partial')
  const file = createWriteStream(partial)
  const hash = createHash('sha256')
  for (let written = 0; written < SIZE; written += 2 ** 20) {
    const chunk = createHash('shake256', { outputLength: 2 ** 20 })
      .update(String(written))
      .digest()
    hash.update(chunk)
    if (!file.write(chunk)) await once(file, 'drain')
  }
  file.end()
  await once(file, 'finish')
  const digest = `sha256:${hash.digest('hex')}` as Digest
  const config = contentOf(OCI_CONFIG, Buffer.from('{}'))
  const layer = { mediaType: OCI_LAYER, digest, size: SIZE }
  const text = JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config: config.descriptor, layers: [layer] })
  const manifest = contentOf(OCI_MANIFEST, Buffer.from(text))
  await link(partial, join(layout, 'blobs', 'sha256', digest.slice('sha256:'.length)))
  await rm(partial)
  await writeLayout(layout, [
    { image: { target: manifest.descriptor, contents: [manifest, config] }, names: ['bench.example/bench/big:1'] },
  ])
  return digest
}

/** Seconds that curl needs. */
async function download(url: string, headers: ReturnType<Subject['headers']>): Promise<number> {
  const more = headers.flatMap(([name, value]) => ['-H', `${name}: ${value}`])
  const start = performance.now()
  const child = spawn('curl', ['-sS', '--fail', '-o', '/dev/null', ...more, url], { stdio: 'inherit' })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`curl ended with ${code}`)
  return (performance.now() - start) / 1000
}

/** A mirror without content asks for blobs, each of which one of PEERS others holds. */
async function benchMisses(runtime: RuntimeName): Promise<void> {
  await using mirrors = new AsyncDisposableStack()
  const digests: Digest[] = []
  let bootstrap: string | undefined
  const start = async (layout: string): Promise<MirrorProcess> => {
    const mirror = await startLayoutMirror(runtime, layout, bootstrap === undefined ? [] : ['--bootstrap', bootstrap])
    mirrors.defer(() => mirror.kill())
    bootstrap ??= mirror.peer
    return mirror
  }
  for (let peer = 0; peer < PEERS; peer++) {
    const image = makeImage({ layers: LAYERS_PER_PEER, layerSize: 1024, seed: peer + 1 })
    const layout = join(dir, `${runtime}-${peer}`)
    await writeLayout(layout, [{ image, names: [`bench.example/bench/peer-${peer}:1`] }])
    await start(layout)
    digests.push(
      ...image.contents
        .filter(({ descriptor }) => descriptor.mediaType === OCI_LAYER)
        .map(({ descriptor }) => descriptor.digest),
    )
  }
  const empty = join(dir, 'none')
  const asker = await start(empty)
  const agent = new Agent({ keepAlive: true })
  mirrors.defer(() => agent.destroy())

  const ask = (digest: Digest) =>
    firstByte(`http://${asker.registry}/v2/bench/peer/blobs/${digest}?ns=bench.example`, agent)
  // Announcing is not measured here, so wait until the last peer's content can be found.
  while ((await ask(digests.at(-1) as Digest)).status !== 200);
  const times: number[] = []
  let missed = 0
  for (const digest of digests) {
    const { status, milliseconds } = await ask(digest)
    if (status === 200) times.push(milliseconds)
    else missed++
  }
  const absent: number[] = []
  for (let index = 0; index < 100; index++) {
    const { status, milliseconds } = await ask(
      `sha256:${createHash('sha256').update(`absent ${index}`).digest('hex')}` as Digest,
    )
    if (status !== 404) throw new Error(`status ${status} for content that nobody has`)
    absent.push(milliseconds)
  }
  console.log(`\nFirst byte of a miss, ${PEERS} peers on ${runtime}:\n`)
  printTable(
    ['what', 'asked', 'median ms', '99th percentile ms', 'not found'],
    [
      [
        'content that one peer has',
        String(digests.length),
        median(times).toFixed(1),
        quantile(times, 0.99).toFixed(1),
        String(missed),
      ],
      [
        'content that nobody has (404)',
        String(absent.length),
        median(absent).toFixed(1),
        quantile(absent, 0.99).toFixed(1),
        '-',
      ],
    ],
  )
}

function firstByte(url: string, agent: Agent): Promise<{ status: number; milliseconds: number }> {
  const start = performance.now()
  return new Promise((resolve, reject) => {
    const request = get(url, { agent }, (response) => {
      let milliseconds: number | undefined
      response.on('data', () => {
        milliseconds ??= performance.now() - start
      })
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, milliseconds: milliseconds ?? performance.now() - start }),
      )
      response.on('error', reject)
    })
    request.on('error', reject)
  })
}
