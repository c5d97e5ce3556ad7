import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../../lib/observe/log.ts'
import { runtimeName } from '../../lib/platform/runtime.ts'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import type { Router } from '../../lib/swarm/router.ts'
import type { Swarm } from '../../lib/swarm/swarm.ts'
import { joinSwarm } from '../../lib/swarm/swarm.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { withTemporaryDirectory } from '../fixtures/image.ts'
import { waitFor } from '../fixtures/wait.ts'
import { AddressBlock } from './addresses.ts'
import { type KeyName, keyOf } from './content.ts'
import { WorkerProcess } from './worker-process.ts'

/** How long a swarm may take to heal, in milliseconds: many times the interval at which it looks for nodes, for a busy machine. */
const HEALING = 30_000
/** Nodes that look often, so that tests do not wait long. */
const TUNING = { bootstrapIntervals: [200, 1_000] } as const
const LOOKUP = 1_000

const at = ({ host, port }: NodeAddress) => `${host}:${port}`
const nameOf = (set: string): KeyName => ({ set, index: 0 })

async function withAddresses(use: (addresses: AddressBlock) => Promise<void>): Promise<void> {
  const addresses = await AddressBlock.reserve(process.pid)
  try {
    await use(addresses)
  } finally {
    await addresses.close()
  }
}

/** Nodes in their own processes, on the runtime of the test. */
async function withWorkers(count: number, use: (...workers: WorkerProcess[]) => Promise<void>): Promise<void> {
  const workers = Array.from({ length: count }, () => new WorkerProcess(runtimeName))
  try {
    await use(...workers)
  } finally {
    await Promise.all(workers.map((worker) => worker.kill()))
  }
}

interface Placed {
  readonly worker: WorkerProcess
  readonly node: string
  readonly self: NodeAddress
}

async function start(
  { worker, node, self }: Placed,
  bootstrap: readonly NodeAddress[],
  dataDir?: string,
): Promise<void> {
  await worker.call('start', { node, self, bootstrap, dataDir, tuning: TUNING })
}

async function advertise({ worker, node }: Placed, set: string): Promise<void> {
  await worker.call('advertise', { node, ranges: [{ set, from: 0, to: 1 }] })
}

async function found({ worker, node }: Placed, set: string): Promise<readonly string[]> {
  const { peers } = await worker.call('lookup', { node, key: keyOf(nameOf(set)), timeout: LOOKUP, all: true })
  return peers
}

/** Waits until each node finds what every other one advertises from now on. */
async function untilAllFound(nodes: readonly Placed[], what: string): Promise<void> {
  const setOf = ({ node }: Placed) => `${what}/${node}`
  for (const node of nodes) await advertise(node, setOf(node))
  for (const asker of nodes) {
    for (const other of nodes.filter((node) => node !== asker)) {
      await waitFor(
        `${what}: ${asker.node} finds ${other.node}`,
        async () => (await found(asker, setOf(other))).includes(at(other.self)),
        HEALING,
      )
    }
  }
}

test('swarm healing: two swarms that learn of each other by their bootstrap name become one', async () => {
  await withAddresses(async (addresses) => {
    const hosts: Record<string, string[]> = { left: [], right: [] }
    let split = true
    const routers: { side: string; self: NodeAddress; router: Swarm }[] = []
    const everybody = () => Object.values(hosts).flat()
    try {
      for (const side of ['left', 'right', 'left', 'right', 'left', 'right']) {
        const self = addresses.next()
        const router = await joinSwarm(
          { log: silentLogger, resolve: async () => (split ? (hosts[side] ?? []) : everybody()) },
          {
            ...TUNING,
            bindHost: self.host,
            self,
            bootstrap: [{ kind: 'dns', host: 'swarm.example', port: self.port }],
            swarmKeys: [SWARM_KEY],
          },
        )
        routers.push({ side, self, router })
        hosts[side]?.push(self.host)
      }
      for (const { router } of routers)
        await waitFor('all of its side know each other', () => router.members.size === 3)
      for (const { self, router } of routers) router.advertise([keyOf(nameOf(at(self)))])
      const finds = async (asker: Router, self: NodeAddress) => {
        const name = keyOf(nameOf(at(self)))
        for await (const { host } of asker.lookup(name, AbortSignal.timeout(LOOKUP)))
          if (host === self.host) return true
        return false
      }
      for (const one of routers) {
        for (const other of routers) {
          if (one === other) continue
          if (one.side === other.side) await waitFor('one side is found', () => finds(one.router, other.self))
          else assert.equal(await finds(one.router, other.self), false, 'the sides do not know of each other yet')
        }
      }
      split = false
      for (const one of routers) {
        for (const other of routers) {
          if (one === other) continue
          await waitFor(
            `${at(one.self)} finds ${at(other.self)} when healed`,
            () => finds(one.router, other.self),
            HEALING,
          )
        }
      }
    } finally {
      await Promise.all(routers.map(({ router }) => router.close()))
    }
  })
})

test('swarm healing: a swarm survives the sudden death of all its bootstrap nodes', async () => {
  await withAddresses(async (addresses) => {
    await withWorkers(2, async (dying, living) => {
      const place = (worker: WorkerProcess, name: string) => ({ worker, node: name, self: addresses.next() })
      const bootstrap = ['bootstrap-1', 'bootstrap-2', 'bootstrap-3'].map((name) => place(dying as WorkerProcess, name))
      const known = bootstrap.map(({ self }) => self)
      for (const [index, node] of bootstrap.entries()) await start(node, known.slice(0, index))
      const others = ['a', 'b', 'c', 'd'].map((name) => place(living as WorkerProcess, name))
      for (const node of others) await start(node, known)
      await untilAllFound([...bootstrap, ...others], 'before')
      await dying?.kill()
      await untilAllFound(others, 'after')
      const late = place(living as WorkerProcess, 'late')
      await start(late, [...known, ...others.map(({ self }) => self)])
      await untilAllFound([...others, late], 'with a new one')
    })
  })
})

test('swarm healing: after all nodes were killed, what they remember brings the swarm together again', async () => {
  await withTemporaryDirectory(async (dir) => {
    await withAddresses(async (addresses) => {
      const places = ['a', 'b', 'c', 'd'].map((node) => ({ node, self: addresses.next() }))
      await withWorkers(1, async (worker) => {
        const nodes = places.map((place) => ({ ...place, worker: worker as WorkerProcess }))
        const [first] = nodes
        for (const node of nodes) {
          await start(node, first === undefined || node === first ? [] : [first.self], join(dir, node.node))
        }
        await untilAllFound(nodes, 'before')
        // A killed process remembers only what is on disk.
        for (const { node, self } of nodes) {
          await waitFor(`${node} has written the others down`, async () => {
            const text = await readFile(join(dir, node, 'nodes.json'), 'utf8').catch(() => '')
            return places.every((place) => place.self.host === self.host || text.includes(`"${place.self.host}"`))
          })
        }
      })
      await withWorkers(1, async (worker) => {
        const nodes = places.map((place) => ({ ...place, worker: worker as WorkerProcess }))
        await Promise.all(nodes.map((node) => start(node, [], join(dir, node.node))))
        await untilAllFound(nodes, 'after')
      })
    })
  })
})

for (const how of ['leave', 'drop'] as const) {
  test(`swarm healing: a node that comes back with another address is found only there (${how})`, async () => {
    await withTemporaryDirectory(async (dir) => {
      await withAddresses(async (addresses) => {
        await withWorkers(1, async (worker) => {
          const place = (node: string): Placed => ({ worker: worker as WorkerProcess, node, self: addresses.next() })
          const others = ['a', 'b', 'c', 'd'].map(place)
          const known = others.slice(0, 1).map(({ self }) => self)
          for (const node of others) await start(node, node === others[0] ? [] : known)
          const before = place('moving')
          await start(before, known, dir)
          await advertise(before, 'kept')
          await waitFor('it is found', async () => (await found(others[1] as Placed, 'kept')).includes(at(before.self)))
          await worker?.call('stop', { node: before.node, how })
          const after = place('moved')
          await start(after, known, dir)
          await advertise(after, 'kept')
          for (const asker of others) {
            await waitFor(
              `${asker.node} finds it at its new address only`,
              async () => {
                const peers = await found(asker, 'kept')
                return peers.length === 1 && peers[0] === at(after.self)
              },
              HEALING,
            )
          }
        })
      })
    })
  })
}
