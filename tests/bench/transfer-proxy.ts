import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { makeImage } from '../e2e/harness/image.ts'
import { cpuSeconds, median, printTable } from './figures.ts'
import { startLayoutMirror, startNginx, startNginxProxy, startScript } from './servers.ts'

const SIZE = 1_000_000_000
const ROUNDS = 5

/** The settings of the mirrors between the blob and curl. */
const VARIANTS = {
  verified: ['--verify', 'on', '--peer-transfer', 'plain'],
  'not verified': ['--verify', 'off', '--peer-transfer', 'plain'],
  'verified, TLS': ['--verify', 'on'],
  'not verified, TLS': ['--verify', 'off'],
} as const

/**
 * A blob of 1 GB from one mirror through another to curl, over loopback: throughput, and CPU time of both mirrors, beside
 * nginx that passes on what another nginx gives, and a bare proxy that does so.
 */
export async function benchProxying(runtimes: readonly RuntimeName[]): Promise<void> {
  await using parts = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-bench-'))
  parts.defer(() => rm(dir, { recursive: true, force: true }))
  const full = join(dir, 'full')
  const { own } = await makeImage(full, { seed: 'proxy', layers: [SIZE] })
  const path = `/v2/bench/proxy/blobs/${own.layers[0]?.digest}?ns=bench.example`
  const empty = join(dir, 'empty')
  await writeLayout(empty, [])

  const origin = await startNginx(join(dir, 'origin'), join(full, 'blobs'))
  parts.defer(() => origin.stop())
  const nginx = await startNginxProxy(join(dir, 'nginx'), origin.url)
  parts.defer(() => nginx.stop())
  const blob = `/${own.layers[0]?.digest.replace(':', '/')}`
  const nginxSubject = () => subjectOf('nginx to nginx', nginx.pid, origin.pid, `${nginx.url}${blob}`)

  const rows: string[][] = []
  for (const runtime of runtimes) {
    await using mirrors = new AsyncDisposableStack()
    const bare = await startScript(runtime, join(import.meta.dirname, 'hop-floor.ts'), new URL(origin.url).port)
    mirrors.defer(bare.kill)
    const subjects = [
      nginxSubject(),
      subjectOf('nginx to a bare proxy with SHA-256', bare.pid, origin.pid, `${bare.url}${blob}`),
    ]
    for (const [name, flags] of Object.entries(VARIANTS)) {
      const holder = await startLayoutMirror(runtime, full, flags)
      mirrors.defer(() => holder.kill())
      const swarm = ['--bootstrap', holder.peer, '--lookup-timeout', '1s']
      const asker = await startLayoutMirror(runtime, empty, [...swarm, ...flags])
      mirrors.defer(() => asker.kill())
      const url = `http://${asker.registry}${path}`
      await untilOffered(url)
      subjects.push(subjectOf(name, asker.pid, holder.pid, url))
    }
    for (let round = 0; round <= ROUNDS; round++) {
      for (const { asker, holder, url, rates, asking, holding } of subjects) {
        const before = [cpuSeconds(asker), cpuSeconds(holder)] as const
        const seconds = await download(url)
        // The first round warms up page cache and compilers.
        if (round === 0) continue
        rates.push(SIZE / 1e9 / seconds)
        asking.push((cpuSeconds(asker) - before[0]) / (SIZE / 1e9))
        holding.push((cpuSeconds(holder) - before[1]) / (SIZE / 1e9))
      }
    }
    for (const { name, rates, asking, holding } of subjects) {
      rows.push([runtime, name, ...[rates, asking, holding].map((figures) => median(figures).toFixed(2))])
    }
  }
  const hash = hashSeconds().toFixed(2)
  console.log(
    `\nA blob of 1 GB from a peer through a mirror to curl, over loopback, median of ${ROUNDS} rounds in turns. SHA-256 alone: ${hash} CPU s/GB.\n`,
  )
  printTable(['runtime', 'how', 'GB/s', 'CPU s/GB of the mirror', 'CPU s/GB of the peer'], rows)
}

/** A measured chain between the blob and curl: its process ids and figures. */
function subjectOf(name: string, asker: number, holder: number, url: string) {
  return { name, asker, holder, url, rates: [] as number[], asking: [] as number[], holding: [] as number[] }
}

/** CPU time of this machine for the digest of 1 GB, which is the least cost of verification. */
function hashSeconds(): number {
  const chunk = new Uint8Array(128 * 1024)
  const hash = createHash('sha256')
  const before = cpuSeconds(process.pid)
  for (let bytes = 0; bytes < SIZE; bytes += chunk.length) hash.update(chunk)
  hash.digest()
  return (cpuSeconds(process.pid) - before) / (SIZE / 1e9)
}

/** Milliseconds until a blob must be announced and found. */
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
