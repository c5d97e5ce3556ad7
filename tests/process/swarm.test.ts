import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { silentLogger } from '../../lib/observe/log.ts'
import type { Key } from '../../lib/oci/key.ts'
import { createNodeFiles } from '../../lib/swarm/node-files.ts'
import type { Router } from '../../lib/swarm/router.ts'
import { type DatagramBackend, runtimeBackend } from '../../lib/udx/index.ts'
import { membersConformance, type SwarmFixture } from '../conformance/members.ts'
import { routerConformance } from '../conformance/router.ts'
import { withTemporaryDirectory } from '../fixtures/image.ts'
import { never } from '../fixtures/layout.ts'
import { createLogRecorder } from '../fixtures/log.ts'
import { bootstrapAt, freePort, type SwarmNode, SwarmNodes, withSwarm } from '../fixtures/swarm.ts'
import { waitFor, within } from '../fixtures/wait.ts'

async function makeFixture(): Promise<SwarmFixture> {
  const nodes = new SwarmNodes()
  let first: SwarmNode | undefined
  return {
    async join() {
      const node = await nodes.start({ bootstrap: first === undefined ? [] : bootstrapAt(first.address) })
      first ??= node
      const { router, address } = node
      await router.joined
      return { router, members: router.members, address, close: () => router.close() }
    },
    close: () => nodes.close(),
  }
}

routerConformance('Hyperswarm router', makeFixture)
membersConformance('Hyperswarm members', makeFixture)

const KEY = 'registry.example/team/app:1' as Key

async function finds(router: Router, key: Key = KEY): Promise<number[]> {
  const ports: number[] = []
  for await (const { port } of router.lookup(key, AbortSignal.timeout(2_000))) ports.push(port)
  return ports.sort()
}

/** Waits until every node finds the keys of every other one. */
async function untilConnected(nodes: readonly SwarmNode[]): Promise<void> {
  const keyOf = ({ address }: SwarmNode) => `registry.example/node/n${address.port}:1` as Key
  for (const node of nodes) node.router.advertise([keyOf(node)])
  for (const node of nodes) {
    for (const other of nodes) {
      if (node === other) continue
      await waitFor(`${node.address.port} finds ${other.address.port}`, async () =>
        (await finds(node.router, keyOf(other))).includes(other.address.port),
      )
    }
  }
}

test('joinSwarm: nodes that all start at once, each with all as bootstrap, find each other', async () => {
  await withSwarm(async (nodes) => {
    const ports = [await freePort(), await freePort(), await freePort(), await freePort()]
    const bootstrap = bootstrapAt(...ports.map((port) => ({ host: '127.0.0.1', port })))
    await untilConnected(await Promise.all(ports.map((port) => nodes.start({ port, bootstrap }))))
  })
})

test('joinSwarm: a node that starts before its bootstrap node finds it later, and says so', async () => {
  await withSwarm(async (nodes) => {
    const port = await freePort()
    const { log, lines } = createLogRecorder()
    const early = await nodes.start({ bootstrap: bootstrapAt({ host: '127.0.0.1', port }), log })
    await early.router.joined
    early.router.advertise([KEY])
    await early.router.settled(never)
    const joined = lines.find(({ event }) => event === 'swarm joined')
    assert.deepEqual([joined?.fields.alone, joined?.fields.neighbours], [true, 0])
    const late = await nodes.start({ port })
    await waitFor('the late node finds what was announced alone', async () =>
      (await finds(late.router)).includes(early.address.port),
    )
    await waitFor('it is no longer alone', () => lines.some(({ event }) => event === 'no longer alone in the swarm'))
    await untilConnected([early, late])
  })
})

test('joinSwarm: nodes that come later and bootstrap from a lone node find it', async () => {
  await withSwarm(async (nodes) => {
    const first = await nodes.start()
    first.router.advertise([KEY])
    await first.router.settled(never)
    const second = await nodes.start({ bootstrap: bootstrapAt(first.address) })
    const third = await nodes.start({ bootstrap: bootstrapAt(first.address) })
    for (const node of [second, third]) {
      await waitFor('what was announced alone is found', async () => (await finds(node.router)).length === 1)
    }
    await untilConnected([first, second, third])
  })
})

test('joinSwarm: a node resolves a name again while it is alone, and not afterwards', async () => {
  await withSwarm(async (nodes) => {
    const other = await nodes.start()
    const { log } = createLogRecorder()
    let addresses: string[] = []
    let asked = 0
    const node = await nodes.start({
      bootstrap: [{ kind: 'dns', host: 'swarm.example', port: other.address.port }],
      log,
      resolve: async (name) => {
        assert.equal(name, 'swarm.example')
        asked++
        if (addresses.length === 0) throw new Error('ENOTFOUND')
        return addresses
      },
    })
    await waitFor('it is asked again', () => asked >= 3)
    assert.equal(node.router.members.size, 1)
    addresses = ['127.0.0.1']
    await waitFor('the other is found', () => node.router.members.size === 2)
    await untilConnected([node, other])
    const before = asked
    await new Promise((resolve) => setTimeout(resolve, 350))
    assert.ok(asked <= before + 1, `asked ${asked - before} times although not alone`)
  })
})

test("joinSwarm: a node's own address among the bootstrap nodes does not count as another node", async () => {
  await withSwarm(async (nodes) => {
    const port = await freePort()
    const node = await nodes.start({ port, bootstrap: bootstrapAt({ host: '127.0.0.1', port }) })
    await node.router.joined
    assert.equal(node.router.members.size, 1)
  })
})

test('joinSwarm: nodes with different swarm keys find nothing of each other in one DHT', async () => {
  await withSwarm(async (nodes) => {
    const first = await nodes.start()
    const bootstrap = bootstrapAt(first.address)
    const same = await nodes.start({ bootstrap })
    const stranger = await nodes.start({ bootstrap, swarmKey: new Uint8Array(32).fill(8) })
    first.router.advertise([KEY])
    await first.router.settled(never)
    await waitFor('one of the same key finds it', async () => (await finds(same.router)).length === 1)
    assert.deepEqual(await finds(stranger.router), [])
  })
})

test('joinSwarm: a node finds the nodes that it knew without bootstrap nodes', async () => {
  await withTemporaryDirectory(async (dir) => {
    await withSwarm(async (nodes) => {
      const other = await nodes.start()
      // The same port both times, or the other node would have to wait for a node that no longer answers.
      const port = await freePort()
      for (const bootstrap of [bootstrapAt(other.address), []]) {
        const files = await createNodeFiles(dir, silentLogger)
        const node = await nodes.start({ port, bootstrap, files })
        await waitFor('the other is known', () => node.router.members.size === 2)
        node.router.advertise([KEY])
        await node.router.settled(never)
        assert.deepEqual(await finds(other.router), [port])
        node.router.withdraw([KEY])
        await node.router.settled(never)
        await node.router.close()
        await files.close()
      }
    })
  })
})

test('joinSwarm: says which port is in use', async () => {
  await withSwarm(async (nodes) => {
    const { address } = await nodes.start()
    await assert.rejects(nodes.start({ port: address.port }), { code: 'EADDRINUSE' })
  })
})

test('Hyperswarm router: lookup ends when its signal aborts, and when the router is closed', async () => {
  await withSwarm(async (nodes) => {
    const first = await nodes.start()
    const second = await nodes.start({ bootstrap: bootstrapAt(first.address) })
    await waitFor('they know each other', () => second.router.members.size === 2)
    // The first node no longer answers, so a lookup has to wait for it.
    await first.router.close()
    const stop = new AbortController()
    const looking = finds(second.router)
    const aborted = (async () => {
      for await (const peer of second.router.lookup(KEY, stop.signal)) assert.fail(`found ${peer.port}`)
    })()
    stop.abort()
    await within('the aborted lookup', aborted, 1_000)
    await within('close', second.router.close(), 5_000)
    assert.deepEqual(await within('the other lookup', looking, 5_000), [])
  })
})

test('Hyperswarm router: close does not wait for a name that does not resolve', async () => {
  await withSwarm(async (nodes) => {
    let asked = false
    const node = await nodes.start({
      bootstrap: [{ kind: 'dns', host: 'slow.example', port: 1 }],
      resolve: () => {
        asked = true
        return new Promise<never>(() => undefined)
      },
    })
    await waitFor('the name is asked for', () => asked)
    await within('close', node.router.close(), 2_000)
  })
})

test('joinSwarm opens sockets for the swarm alone, and none at other addresses of the machine', async () => {
  const bound: string[] = []
  const backend: DatagramBackend = {
    bind(options, onDatagram) {
      bound.push(options.host)
      return runtimeBackend.bind(options, onDatagram)
    },
  }
  await withSwarm(async (nodes) => {
    const first = await nodes.start({ bindHost: '0.0.0.0', backend })
    await untilConnected([first, await nodes.start({ bootstrap: bootstrapAt(first.address) })])
    // hyperdht does so before it accepts connections: it takes loopback if it is told no address.
    await waitFor('a socket at what hyperdht takes for an address', () => bound.some((host) => host !== '0.0.0.0'))
  })
  assert.deepEqual(new Set(bound), new Set(['0.0.0.0', '127.0.0.1']))
})

test("joinSwarm: hyperdht's addon is not used", async (t) => {
  const require = createRequire(import.meta.url)
  const { prototype } = createRequire(require.resolve('hyperdht'))('udx-native') as {
    prototype: Record<string, unknown>
  }
  const methods = ['createSocket', 'createStream', 'networkInterfaces', 'watchNetworkInterfaces']
  const originals = methods.map((name) => prototype[name])
  const used: string[] = []
  for (const name of methods) prototype[name] = () => used.push(name)
  t.after(() =>
    methods.forEach((name, i) => {
      prototype[name] = originals[i]
    }),
  )
  await withSwarm(async (nodes) => {
    const first = await nodes.start()
    await untilConnected([first, await nodes.start({ bootstrap: bootstrapAt(first.address) })])
  })
  assert.deepEqual(used, [])
})
