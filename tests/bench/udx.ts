// UDX on three runtimes beside the addon, all in one run: `node tests/bench/udx.ts [megabytes] [rounds]`. Peers are processes of their
// own on loopback; CPU and the machine's load vary, so read the ratios. Loss drops that share of what a lossy end sends and receives.
import { type Kind, Peer } from '../unit/udx/support/peers.ts'
import { median, printTable } from './figures.ts'

const MB = 1024 * 1024
const megabytes = Number(process.argv[2] ?? 64)
const rounds = Number(process.argv[3] ?? 3)
const TOPICS = 300

/** Client and server, and the least ratio that is expected of them to the addon with itself. */
const PAIRS: readonly (readonly [Kind, Kind, number])[] = [
  ['bun', 'addon', 0.8],
  ['bun', 'bun', 0.8],
  ['deno', 'addon', 0.35],
  ['deno', 'deno', 0.35],
  ['node', 'addon', 0.6],
  ['node', 'node', 0.6],
  ['bun', 'deno', 0.35],
]

/** Shares lost at both ends (the addon loses nothing), and the least ratio to the same pair without loss. */
const LOSSES = [
  { share: 0.01, both: false, expected: 0.8 },
  { share: 0.05, both: false, expected: 0.6 },
  { share: 0.05, both: true, expected: 0.3 },
] as const

/** A client and a server that are connected again and again. */
class Pair {
  readonly client: Peer
  readonly server: Peer
  readonly #publicKey: string

  constructor(client: Peer, server: Peer, publicKey: string) {
    this.client = client
    this.server = server
    this.#publicKey = publicKey
  }

  static async start(bootstrap: number, client: Kind, server: Kind, sealed = false): Promise<Pair> {
    const [a, b] = await Promise.all([
      Peer.start(client, { bootstrap, seed: 1, sealed }),
      Peer.start(server, { bootstrap, seed: 2, sealed }),
    ])
    const { publicKey = '' } = await b.do({ do: 'listen' })
    const pair = new Pair(a, b, publicKey)
    // Once to warm up: compilers and buffers.
    for (let i = 0; i < 2; i++) await pair.transfer(8 * MB)
    return pair
  }

  /** Carries the bytes up, then down. @returns rates in MB/s and the client's CPU in ms per MB. */
  async transfer(bytes: number): Promise<{ up: number; down: number; cpu: number }> {
    const run = (direction: 'up' | 'down') =>
      this.client.do({ do: 'transfer', publicKey: this.#publicKey, direction, bytes })
    const [up, down] = [await run('up'), await run('down')]
    const rate = (ms = Number.NaN) => bytes / 1e3 / ms
    return { up: rate(up.ms), down: rate(down.ms), cpu: ((up.cpu ?? 0) + (down.cpu ?? 0)) / (2 * (bytes / MB)) }
  }

  /** Lets the client, and the server if asked, lose a share of what it sends and receives. */
  async lose(share: number, both: boolean): Promise<void> {
    await this.client.do({ do: 'lose', share })
    if (this.server.kind !== 'addon') await this.server.do({ do: 'lose', share: both ? share : 0 })
  }

  stop(): Promise<boolean[]> {
    return Promise.all([this.client.stop(20_000), this.server.stop(20_000)])
  }
}

type Rates = Awaited<ReturnType<Pair['transfer']>>

const mean = ({ up, down }: Rates) => (up + down) / 2

/** Runs two transfers in turn, so that the load of the machine falls on both, and compares them. */
async function compare(
  first: () => Promise<Rates>,
  second: () => Promise<Rates>,
): Promise<{ rates: Rates; ratio: number }> {
  const [one, two]: [Rates[], Rates[]] = [[], []]
  for (let round = 0; round < rounds; round++) {
    one.push(await first())
    two.push(await second())
  }
  const of = (key: keyof Rates) => median(two.map((rates) => rates[key]))
  const ratio = median(two.map(mean)) / median(one.map(mean))
  return { rates: { up: of('up'), down: of('down'), cpu: of('cpu') }, ratio }
}

/** Lookups per second, CPU per lookup and per announce in ms. */
async function measureDht(
  bootstrap: number,
  kind: Kind,
  sealed = false,
): Promise<{ rate: number; lookup: number; announce: number }> {
  const peer = await Peer.start(kind, { bootstrap, sealed })
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
const bytes = megabytes * MB
const addon = await Pair.start(bootstrapper.port, 'addon', 'addon')
const rows: string[][] = []
const row = (pair: string, loss: string, { up, down, cpu }: Rates, ratio: number, expected: number) => {
  rows.push([pair, loss, up.toFixed(1), down.toFixed(1), cpu.toFixed(1), ratio.toFixed(2), `${expected}`])
}
const reference = await addon.transfer(bytes)
row('addon, addon', 'none', reference, 1, 1)
for (const [client, server, expected] of PAIRS) {
  const pair = await Pair.start(bootstrapper.port, client, server)
  const clean = await compare(
    () => addon.transfer(bytes),
    () => pair.transfer(bytes),
  )
  row(`${client}, ${server}`, 'none', clean.rates, clean.ratio, expected)
  for (const { share, both, expected: least } of LOSSES) {
    if (both && server === 'addon') continue
    const lossy = await compare(
      async () => {
        await pair.lose(0, both)
        return pair.transfer(bytes)
      },
      async () => {
        await pair.lose(share, both)
        return pair.transfer(bytes)
      },
    )
    row(
      `${client}, ${server}`,
      `${share * 100}% at ${both ? 'both ends' : 'the client'}`,
      lossy.rates,
      lossy.ratio,
      least,
    )
  }
  await pair.lose(0, false)
  await pair.stop()
}
await addon.stop()
// Only sealed peers understand each other, so they have a bootstrapper of their own.
const sealedBootstrapper = await Peer.start('node', { sealed: true })
const SEALED_KINDS = ['node', 'deno', 'bun'] as const
for (const kind of SEALED_KINDS) {
  const plain = await Pair.start(bootstrapper.port, kind, kind)
  const sealed = await Pair.start(sealedBootstrapper.port, kind, kind, true)
  const { rates, ratio } = await compare(
    () => plain.transfer(bytes),
    () => sealed.transfer(bytes),
  )
  row(`${kind}, ${kind}, sealed`, 'none', rates, ratio, 0.85)
  await Promise.all([plain.stop(), sealed.stop()])
}
console.log(
  `${megabytes} MB over a Noise stream, medians of ${rounds}; without loss the ratio is to the addon with itself, with loss to the same pair without, sealed to the same pair unsealed`,
)
printTable(['client, server', 'loss', 'up MB/s', 'down MB/s', 'client CPU ms/MB', 'ratio', 'expected'], rows)

const dhtRows: string[][] = []
for (const kind of ['addon', 'bun', 'deno', 'node'] as const) {
  const { rate, lookup, announce } = await measureDht(bootstrapper.port, kind)
  dhtRows.push([kind, rate.toFixed(0), lookup.toFixed(2), announce.toFixed(2)])
}
for (const kind of SEALED_KINDS) {
  const { rate, lookup, announce } = await measureDht(sealedBootstrapper.port, kind, true)
  dhtRows.push([`${kind}, sealed`, rate.toFixed(0), lookup.toFixed(2), announce.toFixed(2)])
}
console.log('')
printTable(['peer', 'lookups/s', 'CPU ms/lookup', 'CPU ms/announce'], dhtRows)
await Promise.all([bootstrapper.stop(), sealedBootstrapper.stop()])
