/**
 * What getting content from a peer costs:
 *
 *   node tests/bench/transfer.ts [pull] [proxy] [memory] [growth] [node] [deno] [bun]
 *
 * `pull` (as root, with what tests/e2e needs): a real containerd's pull of 1 GB in 4 layers directly from docker-registry,
 * through its mirror from one peer, and the same with TLS between the mirrors. `proxy`: throughput and CPU time of a mirror
 * that passes a peer's blob on, with and without verification and TLS. `memory`: 50 transfers at a time. `growth`: one of
 * 1 GiB. All of them on all three runtimes, unless named.
 */
import process from 'node:process'
import { RUNTIMES } from './servers.ts'
import { benchTransferGrowth } from './transfer-growth.ts'
import { benchTransferMemory } from './transfer-memory.ts'
import { benchProxying } from './transfer-proxy.ts'
import { benchPulls } from './transfer-pull.ts'

const BENCHES = { pull: benchPulls, proxy: benchProxying, memory: benchTransferMemory, growth: benchTransferGrowth }

const names = process.argv.slice(2)
const unknown = names.find((name) => !Object.hasOwn(BENCHES, name) && !Object.hasOwn(RUNTIMES, name))
if (unknown !== undefined) {
  throw new Error(`unknown ${unknown}; accepted are ${[...Object.keys(BENCHES), ...Object.keys(RUNTIMES)].join(', ')}`)
}
const chosen = <Name extends string>(all: Readonly<Record<Name, unknown>>): Name[] => {
  const every = Object.keys(all) as Name[]
  const named = every.filter((name) => names.includes(name))
  return named.length > 0 ? named : every
}
for (const bench of chosen(BENCHES)) await BENCHES[bench](chosen(RUNTIMES))
