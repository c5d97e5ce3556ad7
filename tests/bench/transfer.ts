/**
 * What getting content from a peer costs:
 *
 *   node tests/bench/transfer.ts [pull] [proxy] [memory] [growth] [node] [deno] [bun] [--parallel-fetch BYTES]
 *
 * `pull` (as root, with what tests/e2e needs): a real containerd's pull of 1 GB in 4 layers directly from docker-registry,
 * through its mirror from one peer, and the same with TLS between the mirrors; how many times the bytes of the image the giver's
 * link carried, and how many it counted. `--parallel-fetch` makes containerd 2 fetch each layer in chunks. `proxy`: throughput
 * and CPU time of a mirror that passes a peer's blob on, with and without verification and TLS. `memory`: 50 transfers at a
 * time. `growth`: one of 1 GiB. All of them on all three runtimes, unless named.
 */
import { parseArgs } from 'node:util'
import { RUNTIMES } from '../fixtures/programs.ts'
import { benchTransferGrowth } from './transfer-growth.ts'
import { benchTransferMemory } from './transfer-memory.ts'
import { benchProxying } from './transfer-proxy.ts'
import { benchPulls } from './transfer-pull.ts'

const BENCHES = { pull: benchPulls, proxy: benchProxying, memory: benchTransferMemory, growth: benchTransferGrowth }

const { values, positionals: names } = parseArgs({
  options: { 'parallel-fetch': { type: 'string' } },
  allowPositionals: true,
})
const parallelFetch = values['parallel-fetch'] === undefined ? undefined : Number(values['parallel-fetch'])
if (parallelFetch !== undefined && !(Number.isSafeInteger(parallelFetch) && parallelFetch > 0))
  throw new Error(`--parallel-fetch ${values['parallel-fetch']}; accepted are bytes, as 1048576`)
const unknown = names.find((name) => !Object.hasOwn(BENCHES, name) && !Object.hasOwn(RUNTIMES, name))
if (unknown !== undefined) {
  throw new Error(`unknown ${unknown}; accepted are ${[...Object.keys(BENCHES), ...Object.keys(RUNTIMES)].join(', ')}`)
}
const chosen = <Name extends string>(all: Readonly<Record<Name, unknown>>): Name[] => {
  const every = Object.keys(all) as Name[]
  const named = every.filter((name) => names.includes(name))
  return named.length > 0 ? named : every
}
for (const bench of chosen(BENCHES)) await BENCHES[bench](chosen(RUNTIMES), { parallelFetch })
