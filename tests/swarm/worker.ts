// Many nodes of a swarm in one process, which reads commands from its standard input: see protocol.ts.
import process from 'node:process'
import { createLogger } from '../../lib/observe/log.ts'
import { BEAT, systemClock } from '../../lib/platform/clock.ts'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import { createNodeFiles, type NodeFiles } from '../../lib/swarm/node-files.ts'
import type { Swarm } from '../../lib/swarm/swarm.ts'
import { joinSwarm } from '../../lib/swarm/swarm.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { within } from '../fixtures/wait.ts'
import { type KeyRange, keysOf } from './content.ts'
import { type Handlers, serveCalls } from './lines.ts'
import { watchNodes } from './probe.ts'
import type { Calls } from './protocol.ts'

/** Milliseconds that a stopping mirror has to withdraw everything. */
const WITHDRAW_TIMEOUT = 5_000
const READY_TIMEOUT = 60_000

interface Node {
  readonly router: Swarm
  readonly files: NodeFiles | undefined
  readonly self: NodeAddress
  held: readonly KeyRange[]
}

const log = createLogger((line) => process.stderr.write(line), 'error')
const nodes = new Map<string, Node>()
const usageOf = watchNodes()

function nodeOf(name: string): Node {
  const node = nodes.get(name)
  if (node === undefined) throw new Error(`no node ${name} here`)
  return node
}

const calls: Handlers<Calls> = {
  async start({ node, self, bootstrap, dataDir, tuning }) {
    const begin = performance.now()
    const files = dataDir === undefined ? undefined : await createNodeFiles(dataDir, log)
    const router = await joinSwarm(
      // Otherwise the nodes of this machine would all do at once what the nodes of a cluster do independently.
      { log, files, clock: { ...systemClock, offset: Math.random() * BEAT } },
      {
        ...tuning,
        bindHost: self.host,
        self,
        bootstrap: bootstrap.map((address) => ({ kind: 'host', ...address })),
        swarmKeys: [SWARM_KEY],
      },
    )
    nodes.set(node, { router, files, self, held: [] })
    await within(`${node} has joined`, router.joined, READY_TIMEOUT)
    return { took: performance.now() - begin }
  },

  async advertise({ node, ranges }) {
    const { router } = nodeOf(node)
    nodeOf(node).held = [...nodeOf(node).held, ...ranges]
    router.advertise(keysOf(ranges))
    return {}
  },

  async withdraw({ node, ranges }) {
    nodeOf(node).router.withdraw(keysOf(ranges))
    return {}
  },

  async settle({ node, timeout }) {
    const begin = performance.now()
    await nodeOf(node).router.settled(AbortSignal.timeout(timeout))
    return { took: performance.now() - begin }
  },

  async lookup({ node, key, timeout, all }) {
    const begin = performance.now()
    const peers: string[] = []
    let first: number | undefined
    for await (const { host, port } of nodeOf(node).router.lookup(key, AbortSignal.timeout(timeout))) {
      first ??= performance.now() - begin
      peers.push(`${host}:${port}`)
      if (!all) break
    }
    return { peers, took: first ?? performance.now() - begin }
  },

  async stop({ node, how }) {
    const begin = performance.now()
    const { router, files, held } = nodeOf(node)
    nodes.delete(node)
    let complete = how === 'leave'
    if (how === 'leave') {
      router.withdraw(keysOf(held))
      await router.settled(AbortSignal.timeout(WITHDRAW_TIMEOUT)).catch(() => {
        complete = false
      })
    }
    await router.close()
    await files?.close()
    return { took: performance.now() - begin, complete }
  },

  async usage() {
    const { user, system } = process.cpuUsage()
    return {
      cpu: (user + system) / 1_000,
      residentMebibytes: process.memoryUsage.rss() / 2 ** 20,
      nodes: [...nodes].map(([node, { self, router }]) => ({
        node,
        records: router.figures.records,
        ...usageOf(self),
      })),
    }
  },
}

serveCalls<Calls>(calls, async () => {
  await Promise.all([...nodes.keys()].map((node) => calls.stop({ node, how: 'drop' })))
})
