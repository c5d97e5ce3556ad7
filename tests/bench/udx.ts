// UDX on three runtimes beside the addon, all in one run: `node tests/bench/udx.ts [megabytes] [rounds]`. Peers are processes of their
// own on loopback; CPU and the machine's load vary, so read the ratios. Loss drops that share of what a lossy end sends and receives.
import { type Kind, Peer } from '../udx/support/peers.ts'
import { median } from './figures.ts'

const MB = 1024 * 1024
const megabytes = Number(process.argv[2] ?? 64)
const rounds = Number(process.argv[3] ?? 3)
const TOPICS = 300

/** Client, server, loss at each, and the least ratio that is expected: to addon <-> addon, or to the same pair without loss. */
interface Row {
  readonly client: Kind
  readonly server: Kind
  readonly loss: readonly [number, number]
  readonly expected: number
}

const clean = (client: Kind, server: Kind, expected: number): Row => ({ client, server, loss: [0, 0], expected })
const ROWS: readonly Row[] = [
  clean('addon', 'addon', 1),
  clean('bun', 'addon', 0.8),
  clean('bun', 'bun', 0.8),
  clean('deno', 'addon', 0.35),
  clean('deno', 'deno', 0.35),
  clean('node', 'addon', 0.6),
  clean('node', 'node', 0.6),
  clean('bun', 'deno', 0.35),
  ...(['bun', 'deno', 'node'] as const).flatMap((kind) => [
    { client: kind, server: 'addon' as const, loss: [0.01, 0] as const, expected: 0.8 },
    { client: kind, server: 'addon' as const, loss: [0.05, 0] as const, expected: 0.6 },
    { client: kind, server: kind, loss: [0.05, 0.05] as const, expected: 0.3 },
  ]),
  { client: 'bun', server: 'deno', loss: [0.05, 0.05], expected: 0.3 },
]

interface Figures {
  up: number
  down: number
  cpu: number
}

/** Rates in MB/s, and the client's CPU per megabyte in ms. */
async function measure(bootstrap: number, { client, server, loss }: Row): Promise<Figures> {
  const a = await Peer.start(client, { bootstrap, loss: loss[0], seed: 1 })
  const b = await Peer.start(server, { bootstrap, loss: loss[1], seed: 2 })
  try {
    const { publicKey = '' } = await b.do({ do: 'listen' })
    // Once to warm up: compilers and buffers.
    await a.do({ do: 'transfer', publicKey, direction: 'up', bytes: 4 * MB })
    await a.do({ do: 'transfer', publicKey, direction: 'down', bytes: 4 * MB })
    const rate: Record<'up' | 'down', number[]> = { up: [], down: [] }
    let cpu = 0
    for (let round = 0; round < rounds; round++) {
      for (const direction of ['up', 'down'] as const) {
        const answer = await a.do({ do: 'transfer', publicKey, direction, bytes: megabytes * MB })
        rate[direction].push((megabytes * MB) / 1e3 / (answer.ms ?? 0))
        cpu += answer.cpu ?? 0
      }
    }
    return { up: median(rate.up), down: median(rate.down), cpu: cpu / (2 * rounds * megabytes) }
  } finally {
    await Promise.all([a.stop(20_000), b.stop(20_000)])
  }
}

/** Lookups per second, CPU per lookup and per announce in ms. */
async function measureDht(bootstrap: number, kind: Kind): Promise<{ rate: number; lookup: number; announce: number }> {
  const peer = await Peer.start(kind, { bootstrap })
  try {
    const topics = Array.from({ length: TOPICS }, (_, i) => Buffer.alloc(32, `${kind} ${i} `).toString('hex'))
    await peer.do({ do: 'announce', topics: topics.slice(0, 50) })
    const announced = await peer.do({ do: 'announce', topics })
    await peer.do({ do: 'lookup', topics: topics.slice(0, 50) })
    const looked = await peer.do({ do: 'lookup', topics })
    if (looked.found !== TOPICS) throw new Error(`${kind}: found ${looked.found} of ${TOPICS}`)
    return {
      rate: TOPICS / ((looked.ms ?? 0) / 1000),
      lookup: (looked.cpu ?? 0) / TOPICS,
      announce: (announced.cpu ?? 0) / TOPICS,
    }
  } finally {
    await peer.stop(20_000)
  }
}

const bootstrapper = await Peer.start('addon')
console.log(`${megabytes} MB over a Noise stream, median of ${rounds}; ratio of the mean of both directions`)
console.log('pair              loss      up MB/s  down MB/s  CPU ms/MB  ratio  expected')
const cleanRates = new Map<string, number>()
for (const row of ROWS) {
  const { up, down, cpu } = await measure(bootstrapper.port, row)
  const pair = `${row.client} > ${row.server}`
  const isClean = row.loss[0] === 0 && row.loss[1] === 0
  const mean = (up + down) / 2
  if (isClean) cleanRates.set(pair, mean)
  const base = cleanRates.get(isClean ? 'addon > addon' : pair) ?? Number.NaN
  const loss = row.loss.map((share) => `${share * 100}%`).join('/')
  const cells = [
    up.toFixed(1).padStart(8),
    down.toFixed(1).padStart(10),
    cpu.toFixed(1).padStart(10),
    (mean / base).toFixed(2).padStart(6),
  ]
  console.log(`${pair.padEnd(17)} ${loss.padEnd(8)} ${cells.join(' ')}  ${row.expected}`)
}
console.log('\npeer    lookups/s  CPU ms/lookup  CPU ms/announce')
for (const kind of ['addon', 'bun', 'deno', 'node'] as const) {
  const { rate, lookup, announce } = await measureDht(bootstrapper.port, kind)
  console.log(
    `${kind.padEnd(6)} ${rate.toFixed(0).padStart(10)} ${lookup.toFixed(2).padStart(14)} ${announce.toFixed(2).padStart(16)}`,
  )
}
await bootstrapper.stop()
