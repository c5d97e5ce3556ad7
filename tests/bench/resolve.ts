/**
 * What a Resolve costs beside no mirror, while upstream answers:
 *
 *   node tests/bench/resolve.ts [--rounds 400] [--delay 20] [node|deno|bun ...]
 *
 * As containerd asks, with a new connection for each host: HEAD of a tag at the mirror, which leaves it to upstream, then at
 * upstream without and with a secret. Upstream is on loopback, and answers after so many milliseconds as a registry near by does.
 */
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { Agent, createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { RUNTIMES } from '../fixtures/programs.ts'
import { median, printTable, quantile } from './figures.ts'
import { startLayoutMirror } from './servers.ts'

const REGISTRY = 'registry.example'
const PATH = `/v2/team/app/manifests/1?ns=${REGISTRY}`
/**
 * The most that a resolve may cost: the ratio to no mirror in the median, and additional milliseconds at the 99th percentile.
 */
const EXPECTED = { ratio: 1.05, more: 3 }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '400' }, delay: { type: 'string', default: '20' } },
})
const runtimes = (positionals.length > 0 ? positionals : Object.keys(RUNTIMES)) as RuntimeName[]

await using parts = new AsyncDisposableStack()
const dir = await mkdtemp(join(tmpdir(), 'swarmirror-bench-'))
parts.defer(() => rm(dir, { recursive: true, force: true }))
const upstream = createServer((asked, answer) => {
  const status = asked.headers.authorization === undefined ? 401 : 200
  setTimeout(() => answer.writeHead(status, { 'WWW-Authenticate': 'Basic realm="bench"' }).end(), Number(values.delay))
})
upstream.listen(0, '127.0.0.1')
await once(upstream, 'listening')
parts.defer(() => void upstream.close())
const server = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
const certs = join(dir, 'certs.d')
await mkdir(join(certs, REGISTRY), { recursive: true })
await writeFile(join(certs, REGISTRY, 'hosts.toml'), `server = "${server}"\n`)
const layout = join(dir, 'layout')
await mkdir(layout)
await writeLayout(layout, [])

const rows: string[][] = []
for (const runtime of runtimes) {
  const mirror = await startLayoutMirror(runtime, layout, ['--resolve', 'fallback', '--certs-dir', certs])
  try {
    const [direct, mirrored]: [number[], number[]] = [[], []]
    for (let round = 0; round < Number(values.rounds); round++) {
      direct.push(await resolve([server]))
      mirrored.push(await resolve([`http://${mirror.registry}`, server]))
    }
    const ratio = median(mirrored) / median(direct)
    const [slow, slowMirrored] = [quantile(direct, 0.99), quantile(mirrored, 0.99)]
    const figures = [median(direct), median(mirrored), slow, slowMirrored].map((ms) => ms.toFixed(1))
    rows.push([runtime, ...figures, ratio.toFixed(3), (slowMirrored - slow).toFixed(1)])
  } finally {
    await mirror.kill()
  }
}
console.log(`\nA Resolve in ms, upstream answering after ${values.delay} ms:\n`)
const titles = ['median direct', 'median mirrored', 'p99 direct', 'p99 mirrored']
const expected = [`median mirrored / direct (at most ${EXPECTED.ratio})`, `p99 more (at most ${EXPECTED.more})`]
printTable(['runtime', ...titles, ...expected], rows)

/** Milliseconds until one of the hosts, asked in this order, has resolved the tag. */
async function resolve(hosts: readonly string[]): Promise<number> {
  const startedAt = performance.now()
  for (const host of hosts) {
    using agent = Object.assign(new Agent({ keepAlive: true }), { [Symbol.dispose]: () => agent.destroy() })
    if ((await head(host, agent)) === 401) await head(host, agent, { authorization: 'Basic YTpi' })
  }
  return performance.now() - startedAt
}

async function head(host: string, agent: Agent, headers = {}): Promise<number | undefined> {
  const asking = request(`${host}${PATH}`, { method: 'HEAD', agent, headers }).end()
  const [answer] = await once(asking, 'response')
  answer.resume()
  await once(answer, 'end')
  return answer.statusCode
}
