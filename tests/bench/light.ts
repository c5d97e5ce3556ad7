/**
 * What a mirror costs where little happens: a miss, a small blob of another node, rest, memory and the start.
 *
 *   node tests/bench/light.ts [--nodes 8] [--requests 200] [--rest 20] [--store layout|containerd] [bun|node|deno ...]
 *
 * All nodes are processes on loopback. With `--store containerd` (as root) the node that is asked and the one that holds the blobs
 * each have a containerd of their own, and the others a layout. Beside each runtime runs a floor: a bare process with the same
 * packages, and a bare proxy of some twenty lines.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type MirrorProcess, startMirrorProcess } from '../../lib/commands/mirror-process.ts'
import { makeImage } from '../../lib/oci/make-image.ts'
import { OCI_LAYER } from '../../lib/oci/media-type.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { importImage, startContainerd } from '../fixtures/containerd.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { median, printTable, quantile } from './figures.ts'
import { memoryOf, type Use, watchUse } from './light-figures.ts'
import { RUNTIMES, type RuntimeName } from './servers.ts'

/** Bytes of a small blob, as a config may have. */
const SIZE = 300
/** Requests before those that count, so that all connections are there and what runs often is compiled. */
const WARMING = 50
/** Seconds after ready that count as the start, and from the last request to the stretch of rest. */
const [START, SETTLING] = [15, 10]
const READY = 60_000
const NAMESPACE = 'k8s.io'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nodes: { type: 'string', default: '8' },
    requests: { type: 'string', default: '200' },
    rest: { type: 'string', default: '20' },
    store: { type: 'string', default: 'layout' },
  },
})
const runtimes = (positionals.length > 0 ? positionals : ['bun', 'node', 'deno']) as RuntimeName[]
const [nodes, requests, rest] = [values.nodes, values.requests, values.rest].map(Number) as [number, number, number]
const agent = new Agent({ keepAlive: true })

interface Costs {
  readonly missing: readonly number[]
  readonly missingCpu: number
  readonly small: readonly number[]
  readonly smallCpu: number
  readonly start: Use
  readonly rest: Use
  readonly memory: { readonly resident: number; readonly anonymous: number }
  readonly ready: readonly number[]
}

const rows: string[][] = []
const image = makeImage({ layers: requests + WARMING, layerSize: SIZE, seed: 1 })
const digests = image.contents.map(({ descriptor }) => descriptor).filter(({ mediaType }) => mediaType === OCI_LAYER)
for (const runtime of runtimes) {
  rows.push(rowOf(`${runtime}, floor`, await floorOf(runtime)), rowOf(runtime, await costsOf(runtime)))
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
agent.destroy()

function rowOf(name: string, costs: Costs): string[] {
  const { missing, missingCpu, small, smallCpu, start, rest, memory, ready } = costs
  const times = (samples: readonly number[]) => [median(samples).toFixed(2), quantile(samples, 0.95).toFixed(2)]
  const rates = [start.percent.toFixed(2), rest.percent.toFixed(2), rest.wakeUps.toFixed(0)]
  const sizes = [memory.resident.toFixed(0), memory.anonymous.toFixed(0), median(ready).toFixed(0)]
  return [name, ...times(missing), missingCpu.toFixed(1), ...times(small), smallCpu.toFixed(1), ...rates, ...sizes]
}

/** The costs of the mirror that is asked; times of processors are those of all mirrors together. */
async function costsOf(runtime: RuntimeName): Promise<Costs> {
  await using parts = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-light-'))
  parts.defer(() => rm(dir, { recursive: true, force: true }))
  const mirrors: MirrorProcess[] = []
  const ready: number[] = []
  for (let index = 0; index < nodes; index++) {
    const bootstrap = mirrors.slice(0, 3).map(({ peer }) => peer)
    const isWithContainerd = values.store === 'containerd' && index >= nodes - 2
    const store = await storeOf(join(dir, String(index)), isWithContainerd, index === nodes - 2, parts)
    const startedAt = performance.now()
    const flags = {
      ...store,
      ...{ listen: '127.0.0.1:0', 'peer-listen': '127.0.0.1:0', 'admin-listen': '127.0.0.1:0' },
      ...{ 'swarm-key': Buffer.from(SWARM_KEY).toString('hex'), resolve: 'swarm', 'log-level': 'info' },
      ...(bootstrap.length === 0 ? {} : { bootstrap: bootstrap.join(',') }),
    }
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value])
    const { PATH = '', HOME = '' } = process.env
    const mirror = await startMirrorProcess(RUNTIMES[runtime], args, { PATH, HOME }, AbortSignal.timeout(READY))
    parts.defer(() => mirror.kill())
    mirrors.push(mirror)
    if (index > 0) ready.push(performance.now() - startedAt)
  }
  const asked = mirrors.at(-1) as MirrorProcess
  const pids = mirrors.map(({ pid }) => pid)
  const start = await useDuring([asked.pid], () => delay(START * 1000))
  const idle = await useDuring(pids, () => delay(2000))
  const ask = (digest: string) => get(`http://${asked.registry}/v2/team/app/blobs/${digest}`)
  const fetched = await measured(
    pids,
    idle,
    digests.map(({ digest }) => digest),
    200,
    ask,
  )
  const random = Array.from({ length: requests + WARMING }, () => `sha256:${randomBytes(32).toString('hex')}`)
  const missed = await measured(pids, idle, random, 404, ask)
  await delay(SETTLING * 1000)
  const resting = await useDuring([asked.pid], () => delay(rest * 1000))
  return {
    ...{ missing: missed.times, missingCpu: missed.cpu, small: fetched.times, smallCpu: fetched.cpu },
    ...{ start, rest: resting, memory: memoryOf(asked.pid), ready },
  }
}

/** The flags for a store of its own, filled or empty. */
async function storeOf(dir: string, isContainerd: boolean, isHolder: boolean, parts: AsyncDisposableStack) {
  await mkdir(dir)
  if (!isContainerd) {
    await writeLayout(dir, isHolder ? [{ image, names: ['registry.example/team/app:1'] }] : [])
    return { store: `oci-layout:${dir}` }
  }
  const certsDir = join(dir, 'certs.d')
  await mkdir(certsDir)
  const containerd = await startContainerd({ certsDir })
  parts.defer(() => containerd.close())
  if (isHolder) await importImage(containerd, NAMESPACE, image, 'registry.example/team/app:1')
  return {
    ...{ 'containerd-socket': containerd.socket, 'containerd-content': containerd.contentRoot },
    ...{ 'certs-dir': certsDir, 'manage-hosts': 'on', registries: 'registry.example', probe: 'off' },
  }
}

/** The same of bare processes: one that answers by itself, and one that passes on. */
async function floorOf(runtime: RuntimeName): Promise<Costs> {
  const first = await startFloor(runtime, [])
  const proxy = await startFloor(runtime, [first.url])
  try {
    const pids = [first.pid, proxy.pid]
    const start = await useDuring([proxy.pid], () => delay(2000))
    const paths = Array.from({ length: requests + WARMING }, (_, index) => `/${index}`)
    const own = await measured(pids, start, paths, 200, (path) => get(`${first.url}${path}`))
    const passed = await measured(pids, start, paths, 200, (path) => get(`${proxy.url}${path}`))
    const resting = await useDuring([proxy.pid], () => delay(5000))
    return {
      ...{ missing: own.times, missingCpu: own.cpu, small: passed.times, smallCpu: passed.cpu, start, rest: resting },
      ...{ memory: memoryOf(proxy.pid), ready: [first.ready, proxy.ready] },
    }
  } finally {
    for (const { child } of [first, proxy]) child.kill('SIGKILL')
  }
}

async function startFloor(runtime: RuntimeName, args: readonly string[]) {
  const [program, ...leading] = RUNTIMES[runtime]
  const packages = values.store === 'containerd' ? ['@connectrpc/connect', '@connectrpc/connect-node'] : []
  const all = [...leading.slice(0, -1), join(import.meta.dirname, 'light-floor.ts'), args[0] ?? '', ...packages]
  const startedAt = performance.now()
  const child: ChildProcess = spawn(program, all, { stdio: ['ignore', 'pipe', 'inherit'] })
  if (child.stdout === null || child.pid === undefined) throw new Error(`${program} cannot be started`)
  const [line] = await once(child.stdout, 'data')
  return { child, pid: child.pid, url: String(line).trim(), ready: performance.now() - startedAt }
}

/** Milliseconds of each request but the first ones, and of all processors per request, without what is used at rest. */
async function measured<T>(
  pids: readonly number[],
  idle: Use,
  asked: readonly T[],
  expected: number,
  ask: (what: T) => Promise<number | undefined>,
): Promise<{ readonly times: readonly number[]; readonly cpu: number }> {
  const times: number[] = []
  const one = async (what: T) => {
    const startedAt = performance.now()
    const status = await ask(what)
    if (status !== expected) throw new Error(`expected ${expected}, got ${status}`)
    times.push(performance.now() - startedAt)
  }
  for (const what of asked.slice(0, WARMING)) await one(what)
  times.length = 0
  const used = await useDuring(pids, async () => {
    for (const what of asked.slice(WARMING)) await one(what)
  })
  return { times, cpu: (used.seconds * (used.percent - idle.percent) * 10) / times.length }
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
