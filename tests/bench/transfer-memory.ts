import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { makeImage } from '../e2e/harness/image.ts'
import { printTable, watchMemory } from './figures.ts'
import { startLayoutMirror } from './servers.ts'

const TRANSFERS = 50
/** Bytes of each blob, and how fast its reader takes it, per second: all are under way at the same time for some seconds. */
const SIZE = 20_000_000
const READER_RATE = 4_000_000
/** How many peers have all blobs. */
const PEERS = [1, 4]
/** What a mirror on Bun may need, in MiB. */
const EXPECTED = 110

/** Resident memory of a mirror, and of the peer that it finds first, while 50 blobs come from one peer or several to slow readers. */
export async function benchTransferMemory(runtimes: readonly RuntimeName[]): Promise<void> {
  await using parts = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-bench-'))
  parts.defer(() => rm(dir, { recursive: true, force: true }))
  const full = join(dir, 'full')
  const { own } = await makeImage(full, { seed: 'memory', layers: Array.from({ length: TRANSFERS }, () => SIZE) })
  const empty = join(dir, 'empty')
  await writeLayout(empty, [])

  const rows: string[][] = []
  for (const [runtime, peers] of runtimes.flatMap((name) => PEERS.map((count) => [name, count] as const))) {
    await using mirrors = new AsyncDisposableStack()
    const holder = await startLayoutMirror(runtime, full)
    mirrors.defer(() => holder.kill())
    for (let more = 1; more < peers; more++) {
      const other = await startLayoutMirror(runtime, full, ['--bootstrap', holder.peer])
      mirrors.defer(() => other.kill())
    }
    const asker = await startLayoutMirror(runtime, empty, ['--bootstrap', holder.peer, '--lookup-timeout', '1s'])
    mirrors.defer(() => asker.kill())
    const urls = own.layers.map(
      ({ digest }) => `http://${asker.registry}/v2/bench/memory/blobs/${digest}?ns=bench.example`,
    )
    await untilOffered(urls)
    const watches = [watchMemory(asker.pid), watchMemory(holder.pid)]
    const codes = await Promise.all(urls.map(readSlowly))
    const memory = watches.map((watch) => watch.stop())
    rows.push([
      runtime,
      String(peers),
      ...memory.flatMap(({ before, growth }) => [before.toFixed(0), (before + growth).toFixed(0)]),
      runtime === 'bun' ? String(EXPECTED) : '',
      `${codes.filter((code) => code === 0).length} of ${TRANSFERS}`,
      [...new Set(codes)].filter((code) => code !== 0).join(' '),
    ])
  }
  console.log(`\nResident memory in MiB at ${TRANSFERS} concurrent transfers of ${SIZE / 1e6} MB:\n`)
  printTable(
    [
      'runtime',
      'peers',
      'mirror, idle',
      'mirror, most',
      'peer, idle',
      'peer, most',
      'expected at most',
      'whole',
      'other exit codes of curl',
    ],
    rows,
  )
}

/** Milliseconds until everything must be announced and found. */
const OFFER_BOUND = 60_000

async function untilOffered(urls: readonly string[]): Promise<void> {
  const signal = AbortSignal.timeout(OFFER_BOUND)
  for (const url of urls) while (!(await fetch(url, { method: 'HEAD', signal })).ok);
}

/** The exit code of curl: 0 if everything came. */
async function readSlowly(url: string): Promise<number> {
  const options = ['--silent', '--fail', '--limit-rate', String(READER_RATE), '-o', '/dev/null']
  const [code] = await once(spawn('curl', [...options, url], { stdio: 'inherit' }), 'exit')
  return code
}
