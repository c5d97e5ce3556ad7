import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { writeLayout } from '../../lib/store/layout/writer.ts'
import { makeImage } from '../e2e/harness/image.ts'
import { printTable, watchMemory } from './figures.ts'
import { startLayoutMirror } from './servers.ts'
import { download, untilOffered } from './transfer-proxy.ts'

const SIZE = 1024 ** 3
/** MiB by which a mirror may grow while it passes the blob on. */
const EXPECTED = 32

/** Measures how much the resident memory of a mirror grows while a blob of 1 GiB passes through it at full speed. */
export async function benchTransferGrowth(runtimes: readonly RuntimeName[]): Promise<void> {
  await using parts = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-bench-'))
  parts.defer(() => rm(dir, { recursive: true, force: true }))
  const full = join(dir, 'full')
  const { own } = await makeImage(full, { seed: 'growth', layers: [SIZE] })
  const empty = join(dir, 'empty')
  await writeLayout(empty, [])

  const rows: string[][] = []
  for (const runtime of runtimes) {
    await using mirrors = new AsyncDisposableStack()
    const holder = await startLayoutMirror(runtime, full)
    mirrors.defer(() => holder.kill())
    const asker = await startLayoutMirror(runtime, empty, ['--bootstrap', holder.peer, '--lookup-timeout', '1s'])
    mirrors.defer(() => asker.kill())
    const url = `http://${asker.registry}/v2/bench/growth/blobs/${own.layers[0]?.digest}?ns=bench.example`
    await untilOffered(url)
    const watch = watchMemory(asker.pid)
    await download(url)
    const { before, growth } = watch.stop()
    rows.push([runtime, before.toFixed(0), growth.toFixed(0), String(EXPECTED)])
  }
  console.log('\nResident memory in MiB of a mirror that passes one blob of 1 GiB on:\n')
  printTable(['runtime', 'before', 'growth', 'expected at most'], rows)
}
