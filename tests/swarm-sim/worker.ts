// Many nodes of a swarm in one process: reads requests as JSON lines, answers each with one, in any order (protocol.ts). Ends by
// itself when its input does and all nodes are closed.
import process from 'node:process'
import { createInterface } from 'node:readline'
import { createLogger } from '../../lib/observe/log.ts'
import type { NodeAddress } from '../../lib/swarm/bootstrap.ts'
import { joinSwarm } from '../../lib/swarm/hyperswarm.ts'
import { NodeMemory } from '../../lib/swarm/node-memory.ts'
import type { Router } from '../../lib/swarm/router.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { waitFor } from '../fixtures/wait.ts'
import { type KeyRange, keyOf, keysOf } from './content.ts'
import { watchNodes } from './probe.ts'
import type { Answer, Ask, CallName, Request, Response } from './protocol.ts'

/** As long as a mirror takes at most to withdraw everything when it stops. */
const WITHDRAW_TIMEOUT = 5_000
const READY_TIMEOUT = 60_000

interface Node {
  readonly router: Router
  readonly memory: NodeMemory | undefined
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

const calls: { readonly [Name in CallName]: (ask: Ask<Name>) => Promise<Answer<Name>> } = {
  async start({ node, self, bootstrap, dataDir, tuning }) {
    const begin = performance.now()
    const memory = dataDir === undefined ? undefined : await NodeMemory.open(dataDir, log)
    const router = await joinSwarm(
      { log, memory },
      {
        ...tuning,
        bindHost: self.host,
        self,
        bootstrap: bootstrap.map((address) => ({ kind: 'host', ...address })),
        swarmKeys: [SWARM_KEY],
      },
    )
    nodes.set(node, { router, memory, self, held: [] })
    await waitFor(`${node} is ready`, () => router.ready, READY_TIMEOUT)
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

  async lookup({ node, name, timeout, all }) {
    const begin = performance.now()
    const peers: string[] = []
    let first: number | undefined
    for await (const { host, port } of nodeOf(node).router.lookup(keyOf(name), AbortSignal.timeout(timeout))) {
      first ??= performance.now() - begin
      peers.push(`${host}:${port}`)
      if (!all) break
    }
    return { peers, took: first ?? performance.now() - begin }
  },

  async stop({ node, how }) {
    const begin = performance.now()
    const { router, memory, held } = nodeOf(node)
    nodes.delete(node)
    let complete = how === 'leave'
    if (how === 'leave') {
      router.withdraw(keysOf(held))
      await router.settled(AbortSignal.timeout(WITHDRAW_TIMEOUT)).catch(() => {
        complete = false
      })
    }
    await router.close()
    await memory?.close()
    return { took: performance.now() - begin, complete }
  },

  async usage() {
    const { user, system } = process.cpuUsage()
    return {
      cpu: (user + system) / 1_000,
      residentMebibytes: process.memoryUsage.rss() / 2 ** 20,
      nodes: [...nodes].map(([node, { self }]) => ({ node, ...usageOf(self) })),
    }
  },
}

async function answer<Name extends CallName>(id: number, name: Name, ask: Ask<Name>): Promise<Response> {
  try {
    return { id, answer: await calls[name](ask) }
  } catch (error) {
    return { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const { id, call, ask } = JSON.parse(line) as Request
  process.stdout.write(`${JSON.stringify(await answer(id, call, ask as Ask<CallName>))}\n`)
})
// The one that drives is done, or gone.
lines.on('close', async () => {
  await Promise.all([...nodes.keys()].map((node) => calls.stop({ node, how: 'drop' })))
})
