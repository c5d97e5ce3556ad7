import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeLayout } from '../../lib/store/layout-writer.ts'
import { makeImage } from '../e2e/harness/image.ts'
import { cpuSeconds, median, printTable } from './figures.ts'
import { type RuntimeName, startLayoutMirror } from './servers.ts'

const SIZE = 1_000_000_000
const ROUNDS = 5

/** How the mirrors between the blob and curl are set. */
const VARIANTS = {
  verified: ['--verify', 'on'],
  'not verified': ['--verify', 'off'],
  'verified, TLS': ['--verify', 'on', '--peer-transfer', 'tls'],
  'not verified, TLS': ['--verify', 'off', '--peer-transfer', 'tls'],
} as const

/** A blob of 1 GB from one mirror through another to curl, over loopback: throughput, and CPU time of both mirrors. */
export async function benchProxying(runtimes: readonly RuntimeName[]): Promise<void> {
  await using parts = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-bench-'))
  parts.defer(() => rm(dir, { recursive: true, force: true }))
  const full = join(dir, 'full')
  const { own } = await makeImage(full, { seed: 'proxy', layers: [SIZE] })
  const path = `/v2/bench/proxy/blobs/${own.layers[0]?.digest}?ns=bench.example`
  const empty = join(dir, 'empty')
  await writeLayout(empty, [])

  const rows: string[][] = []
  for (const runtime of runtimes) {
    await using mirrors = new AsyncDisposableStack()
    const subjects = []
    for (const [name, flags] of Object.entries(VARIANTS)) {
      const holder = await startLayoutMirror(runtime, full, flags)
      mirrors.defer(() => holder.kill())
      const asker = await startLayoutMirror(runtime, empty, [
        '--bootstrap',
        holder.peer,
        '--lookup-timeout',
        '1s',
        ...flags,
      ])
      mirrors.defer(() => asker.kill())
      const url = `http://${asker.registry}${path}`
      await untilOffered(url)
      subjects.push({
        name,
        holder,
        asker,
        url,
        rates: [] as number[],
        asking: [] as number[],
        holding: [] as number[],
      })
    }
    for (let round = 0; round <= ROUNDS; round++) {
      for (const { holder, asker, url, rates, asking, holding } of subjects) {
        const before = [cpuSeconds(asker.pid), cpuSeconds(holder.pid)] as const
        const seconds = await download(url)
        // The first round warms up page cache and compilers.
        if (round === 0) continue
        rates.push(SIZE / 1e9 / seconds)
        asking.push((cpuSeconds(asker.pid) - before[0]) / (SIZE / 1e9))
        holding.push((cpuSeconds(holder.pid) - before[1]) / (SIZE / 1e9))
      }
    }
    for (const { name, rates, asking, holding } of subjects) {
      rows.push([runtime, name, ...[rates, asking, holding].map((figures) => median(figures).toFixed(2))])
    }
  }
  console.log(
    `\nA blob of 1 GB from a peer through a mirror to curl, over loopback, median of ${ROUNDS} rounds in turns:\n`,
  )
  printTable(['runtime', 'how', 'GB/s', 'CPU s/GB of the mirror', 'CPU s/GB of the peer'], rows)
}

/** Longest until a blob is announced and found, in milliseconds. */
const OFFER_BOUND = 30_000

export async function untilOffered(url: string): Promise<void> {
  const signal = AbortSignal.timeout(OFFER_BOUND)
  while (!(await fetch(url, { method: 'HEAD', signal })).ok);
}

/** Seconds that curl needs. */
export async function download(url: string): Promise<number> {
  const start = performance.now()
  const child = spawn('curl', ['-sS', '--fail', '-o', '/dev/null', url], { stdio: 'inherit' })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`curl ended with ${code}`)
  return (performance.now() - start) / 1000
}
