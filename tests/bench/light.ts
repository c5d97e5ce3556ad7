/**
 * What a mirror costs where little happens: a miss, a small blob of another node, rest, memory and the start.
 *
 *   node tests/bench/light.ts [--nodes 8] [--requests 200] [--age 65] [--settle 60] [--rest 20] [--store layout|containerd] [bun|node|deno|executable ...]
 *
 * All nodes are processes on loopback. With `--store containerd` (as root) the node that is asked and the one that holds the blobs
 * each have a containerd of their own, and the others a layout. Beside each runtime runs a floor: a bare process with the same
 * packages, and a bare proxy of some twenty lines. The executable, which `npm run build` makes, has Bun's beside it.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { makeImage } from '../../lib/oci/make-image.ts'
import { OCI_LAYER } from '../../lib/oci/media-type.ts'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { importImage, startContainerd } from '../fixtures/containerd.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { type MirrorProcess, startMirrorProcess } from '../fixtures/mirror-process.ts'
import { environmentOfPrograms, PROGRAMS, type ProgramName } from '../fixtures/programs.ts'
import { median, printTable, quantile } from './figures.ts'
import { memoryOf, type Use, watchUse } from './light-figures.ts'
import { startScript } from './servers.ts'

/** Bytes of the file in each blob, which has 2 KiB as a tar, like a config. */
const SIZE = 300
/** Requests before the measured ones, so that all connections are open and hot code is compiled. */
const WARMING = 50
/** Seconds after ready that count as the start. */
const START = 15
const READY = 60_000
const NAMESPACE = 'k8s.io'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nodes: { type: 'string', default: '8' },
    requests: { type: 'string', default: '200' },
    /** Seconds for which mirrors run before they are asked, because keepers vouch for their answers only after a minute. */
    age: { type: 'string', default: '65' },
    settle: { type: 'string', default: '60' },
    rest: { type: 'string', default: '20' },
    store: { type: 'string', default: 'layout' },
  },
})
const programs = (positionals.length > 0 ? positionals : ['bun', 'node', 'deno']) as ProgramName[]
const unknown = programs.find((name) => !Object.hasOwn(PROGRAMS, name))
if (unknown !== undefined) throw new Error(`unknown ${unknown}; accepted are ${Object.keys(PROGRAMS).join(', ')}`)
const [nodes, requests, age, rest] = [values.nodes, values.requests, values.age, values.rest].map(Number) as [
  number,
  number,
  number,
  number,
]
const agent = new Agent({ keepAlive: true })

/** The costs of requests of one kind. */
interface RequestCosts {
  /** Milliseconds until the client has the answer. */
  readonly times: readonly number[]
  /** Milliseconds of processors, in all; by process in the order of the ids that were given, the last one being asked. */
  readonly cpu: number
  readonly cpus: readonly number[]
}

interface Costs {
  readonly missing: RequestCosts
  readonly small: RequestCosts
  readonly start: Use
  readonly rest: Use
  readonly memory: { readonly resident: number; readonly anonymous: number }
  readonly ready: readonly number[]
}

const rows: string[][] = []
/** The rows on where a request's time goes. */
const parts: string[][] = []
const image = makeImage({ layers: requests + WARMING, layerSize: SIZE, seed: 1 })
const digests = image.contents.map(({ descriptor }) => descriptor).filter(({ mediaType }) => mediaType === OCI_LAYER)
for (const program of programs) {
  const runtime = program === 'executable' ? 'bun' : program
  rows.push(rowOf(`${runtime}, floor`, await floorOf(runtime)), rowOf(program, await costsOf(program)))
}
console.log(`\n${nodes} nodes, ${values.store}, ${requests} requests of each kind\n`)
const titles = [
  '404 ms',
  'p95',
  'CPU ms',
  'small blob ms',
  'p95',
  'CPU ms',
  'start: % of a core',
  'rest: %',
  'wake-ups/s',
]
printTable(['', ...titles, 'resident MiB', 'anonymous', 'start to ready ms'], rows)
console.log('\nWhere one of them goes, on average\n')
const spans = ['to the head of the answer ms', 'of it the lookup ms', 'requests over the DHT']
printTable(['', 'request', ...spans, 'CPU ms: asked', 'holder', 'each other'], parts)
agent.destroy()

function partsOf(program: ProgramName, kind: string, { times, cpus }: RequestCosts, spent: Spent): void {
  const [asked = 0, holder = 0, ...others] = cpus.toReversed()
  const other = others.reduce((sum, cpu) => sum + cpu, 0) / Math.max(others.length, 1)
  const all = times.length + WARMING
  // The door measures only answers with content. For a miss, the whole time of the client counts.
  const head =
    spent.firstByte > 0 ? (spent.firstByte * 1000) / all : times.reduce((sum, ms) => sum + ms, 0) / times.length
  const figures = [head, (spent.lookups * 1000) / all, spent.requests / all, asked, holder, other]
  parts.push([program, kind, ...figures.map((figure) => figure.toFixed(2))])
}

function rowOf(name: string, costs: Costs): string[] {
  const { missing, small, start, rest, memory, ready } = costs
  const requests = ({ times, cpu }: RequestCosts) => [
    ...[median(times), quantile(times, 0.95)].map((ms) => ms.toFixed(2)),
    cpu.toFixed(1),
  ]
  const rates = [start.percent.toFixed(2), rest.percent.toFixed(2), rest.wakeUps.toFixed(0)]
  const sizes = [memory.resident.toFixed(0), memory.anonymous.toFixed(0), median(ready).toFixed(0)]
  return [name, ...requests(missing), ...requests(small), ...rates, ...sizes]
}

/** The costs of the mirror that is asked; times of processors are those of all mirrors together. */
async function costsOf(program: ProgramName): Promise<Costs> {
  await using stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-light-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  const mirrors: MirrorProcess[] = []
  const ready: number[] = []
  for (let index = 0; index < nodes; index++) {
    const bootstrap = mirrors.slice(0, 3).map(({ peer }) => peer)
    const isWithContainerd = values.store === 'containerd' && index >= nodes - 2
    const store = await storeOf(join(dir, String(index)), isWithContainerd, index === nodes - 2, stack)
    const startedAt = performance.now()
    const flags = {
      ...store,
      ...{ listen: '127.0.0.1:0', 'peer-listen': '127.0.0.1:0', 'admin-listen': '127.0.0.1:0' },
      ...{ 'swarm-key': Buffer.from(SWARM_KEY).toString('hex'), resolve: 'swarm', 'log-level': 'info' },
      ...(bootstrap.length === 0 ? {} : { bootstrap: bootstrap.join(',') }),
    }
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])
    const mirror = await startMirrorProcess(
      PROGRAMS[program],
      args,
      environmentOfPrograms(),
      AbortSignal.timeout(READY),
    )
    stack.defer(() => mirror.kill())
    mirrors.push(mirror)
    if (index > 0) ready.push(performance.now() - startedAt)
  }
  const asked = mirrors.at(-1) as MirrorProcess
  const pids = mirrors.map(({ pid }) => pid)
  const start = await useDuring([asked.pid], () => delay(START * 1000))
  await delay(Math.max(age - START, 0) * 1000)
  const idle = await useDuring(pids, () => delay(2000))
  const ask = (digest: string) => get(`http://${asked.registry}/v2/team/app/blobs/${digest}?ns=registry.example`)
  const spent = await watchFigures(asked.admin)
  const fetched = await measured(
    pids,
    idle,
    digests.map(({ digest }) => digest),
    200,
    ask,
  )
  partsOf(program, 'small blob', fetched, await spent())
  const spentMissing = await watchFigures(asked.admin)
  const random = Array.from({ length: requests + WARMING }, () => `sha256:${randomBytes(32).toString('hex')}`)
  const missed = await measured(pids, idle, random, 404, ask)
  partsOf(program, '404', missed, await spentMissing())
  await delay(Number(values.settle) * 1000)
  const resting = await useDuring([asked.pid], () => delay(rest * 1000))
  return {
    ...{ missing: missed, small: fetched },
    ...{ start, rest: resting, memory: memoryOf(asked.pid), ready },
  }
}

/** The flags for a separate store, filled or empty. */
async function storeOf(dir: string, isContainerd: boolean, isHolder: boolean, stack: AsyncDisposableStack) {
  await mkdir(dir)
  if (!isContainerd) {
    await writeLayout(dir, isHolder ? [{ image, names: ['registry.example/team/app:1'] }] : [])
    return { store: `oci-layout:${dir}` }
  }
  const certsDir = join(dir, 'certs.d')
  await mkdir(certsDir)
  const containerd = await startContainerd({ certsDir })
  stack.defer(() => containerd.close())
  if (isHolder) await importImage(containerd, NAMESPACE, image, 'registry.example/team/app:1')
  return {
    ...{ 'containerd-socket': containerd.socket, 'containerd-content': containerd.contentRoot },
    'containerd-config': join(dirname(containerd.socket), 'config.toml'),
    ...{ 'certs-dir': certsDir, 'manage-hosts': 'on', registries: 'registry.example', probe: 'off' },
  }
}

/** The costs of bare processes: one that answers by itself, and one that passes on. */
async function floorOf(runtime: RuntimeName): Promise<Costs> {
  const script = join(import.meta.dirname, 'light-floor.ts')
  const first = await startScript(runtime, script)
  const proxy = await startScript(runtime, script, first.url)
  try {
    const pids = [first.pid, proxy.pid]
    const start = await useDuring([proxy.pid], () => delay(2000))
    const paths = Array.from({ length: requests + WARMING }, (_, index) => `/${index}`)
    const own = await measured(pids, start, paths, 200, (path) => get(`${first.url}${path}`))
    const passed = await measured(pids, start, paths, 200, (path) => get(`${proxy.url}${path}`))
    const resting = await useDuring([proxy.pid], () => delay(5000))
    return {
      ...{ missing: own, small: passed, start, rest: resting },
      ...{ memory: memoryOf(proxy.pid), ready: [first.ready, proxy.ready] },
    }
  } finally {
    for (const { kill } of [first, proxy]) kill()
  }
}

/** The cost of each request after the first ones, without the use at rest. */
async function measured<T>(
  pids: readonly number[],
  idle: Use,
  asked: readonly T[],
  expected: number,
  ask: (what: T) => Promise<number | undefined>,
): Promise<RequestCosts> {
  const times: number[] = []
  const one = async (what: T) => {
    const startedAt = performance.now()
    const status = await ask(what)
    if (status !== expected) throw new Error(`expected ${expected}, got ${status}`)
    times.push(performance.now() - startedAt)
  }
  for (const what of asked.slice(0, WARMING)) await one(what)
  times.length = 0
  const stops = pids.map((pid) => watchUse([pid]))
  for (const what of asked.slice(WARMING)) await one(what)
  const cpus = stops.map((stop) => {
    const { seconds, percent } = stop()
    return (seconds * (percent - idle.percent / pids.length) * 10) / times.length
  })
  return { times, cpu: cpus.reduce((sum, cpu) => sum + cpu, 0), cpus }
}

/** The metrics of a mirror over some time: seconds, and requests over the DHT. */
interface Spent {
  readonly firstByte: number
  readonly lookups: number
  readonly requests: number
}

async function watchFigures(admin: string): Promise<() => Promise<Spent>> {
  const look = async () => {
    const body = await (await fetch(`http://${admin}/metrics`)).text()
    const sum = (name: string) =>
      [...body.matchAll(new RegExp(`^swarmirror_${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce(
        (all, [, value]) => all + Number(value),
        0,
      )
    return [sum('first_byte_seconds_sum'), sum('lookup_seconds_sum'), sum('swarm_requests_total')] as const
  }
  const before = await look()
  return async () => {
    const [firstByte, lookups, requests] = (await look()).map((figure, index) => figure - (before[index] ?? 0))
    return { firstByte: firstByte ?? 0, lookups: lookups ?? 0, requests: requests ?? 0 }
  }
}

async function useDuring(pids: readonly number[], run: () => Promise<unknown>): Promise<Use> {
  const stop = watchUse(pids)
  await run()
  return stop()
}

async function get(url: string): Promise<number | undefined> {
  const asking = request(url, { agent }).end()
  const [answer] = await once(asking, 'response')
  answer.resume()
  await once(answer, 'end')
  return answer.statusCode
}
