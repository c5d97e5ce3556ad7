/**
 * Serving local content beside nginx, and the first byte of a miss that one of 20 peers can fill:
 *
 *   node tests/bench/serve.ts [node|deno|bun]
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
import type { MirrorProcess } from '../../lib/commands/mirror-process.ts'
import type { Digest } from '../../lib/oci/digest.ts'
import { contentOf, makeImage } from '../../lib/oci/image.ts'
import { OCI_CONFIG, OCI_LAYER, OCI_MANIFEST } from '../../lib/oci/media-type.ts'
import { writeLayout } from '../../lib/store/layout-writer.ts'
import { cpuSeconds, median, printTable, quantile, watchMemory } from './figures.ts'
import { RUNTIMES, type RuntimeName, startLayoutMirror, startNginx } from './servers.ts'

const SIZE = 2 ** 30
const ROUNDS = 5
const PEERS = 20
const LAYERS_PER_PEER = 25

const runtime = (process.argv[2] ?? 'node') as RuntimeName
if (!Object.hasOwn(RUNTIMES, runtime))
  throw new Error(`unknown runtime ${runtime}; accepted are ${Object.keys(RUNTIMES).join(', ')}`)
await using parts = new AsyncDisposableStack()
const dir = await mkdtemp(join(tmpdir(), 'swarmirror-bench-'))
parts.defer(() => rm(dir, { recursive: true, force: true }))

await benchServing()
await benchMisses()

/** One file of 1 GiB, over loopback, by curl: the mirror's registry door and nginx in turns. */
async function benchServing(): Promise<void> {
  await using servers = new AsyncDisposableStack()
  const layout = join(dir, 'big')
  const digest = await writeBigLayout(layout)
  const files = join(dir, 'files')
  await mkdir(files)
  await link(join(layout, 'blobs', 'sha256', digest.slice('sha256:'.length)), join(files, 'blob'))
  const nginx = await startNginx(join(dir, 'nginx'), files)
  servers.defer(() => nginx.stop())
  const mirror = await startLayoutMirror(runtime, layout)
  servers.defer(() => mirror.kill())

  const subjects = [
    { name: 'nginx', pid: nginx.pid, url: `${nginx.url}/blob` },
    {
      name: `mirror on ${runtime}`,
      pid: mirror.pid,
      url: `http://${mirror.registry}/v2/bench/big/blobs/${digest}?ns=bench.example`,
    },
  ].map((subject) => ({ ...subject, rates: [] as number[], cpu: [] as number[], growth: [] as number[] }))
  for (let round = 0; round <= ROUNDS; round++) {
    for (const subject of subjects) {
      const memory = watchMemory(subject.pid)
      const before = cpuSeconds(subject.pid)
      const seconds = await download(subject.url)
      const { growth } = memory.stop()
      // The first round warms up the page cache and the compilers.
      if (round === 0) continue
      subject.rates.push(SIZE / 1e9 / seconds)
      subject.cpu.push((cpuSeconds(subject.pid) - before) / (SIZE / 1e9))
      subject.growth.push(growth)
    }
  }
  const [reference] = subjects
  console.log(`\nServing a local blob of 1 GiB over loopback, median of ${ROUNDS} rounds in turns:\n`)
  printTable(
    ['server', 'GB/s', 'of nginx', 'CPU s/GB', 'of nginx', 'memory growth MiB (most)'],
    subjects.map(({ name, rates, cpu, growth }) => [
      name,
      median(rates).toFixed(2),
      (median(rates) / median(reference?.rates ?? [])).toFixed(2),
      median(cpu).toFixed(2),
      (median(cpu) / median(reference?.cpu ?? [])).toFixed(2),
      Math.max(...growth).toFixed(1),
    ]),
  )
}

/** Writes a layout whose one layer has SIZE bytes, without ever holding them. */
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
async function download(url: string): Promise<number> {
  const start = performance.now()
  const child = spawn('curl', ['-sS', '--fail', '-o', '/dev/null', url], { stdio: 'inherit' })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`curl ended with ${code}`)
  return (performance.now() - start) / 1000
}

/** A mirror that has nothing asks for blobs of which each is at one of PEERS others. */
async function benchMisses(): Promise<void> {
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
    const layout = join(dir, `peer-${peer}`)
    await writeLayout(layout, [{ image, names: [`bench.example/bench/peer-${peer}:1`] }])
    await start(layout)
    digests.push(
      ...image.contents
        .filter(({ descriptor }) => descriptor.mediaType === OCI_LAYER)
        .map(({ descriptor }) => descriptor.digest),
    )
  }
  const empty = join(dir, 'empty')
  await writeLayout(empty, [])
  const asker = await start(empty)
  const agent = new Agent({ keepAlive: true })
  mirrors.defer(() => agent.destroy())

  const ask = (digest: Digest) =>
    firstByte(`http://${asker.registry}/v2/bench/peer/blobs/${digest}?ns=bench.example`, agent)
  // Announcing is not what is measured here: wait until the last peer's content can be found.
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
