import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Readiness } from '../../../../lib/observe/readiness.ts'
import { createDhtClient } from '../../../../lib/swarm/dht/client.ts'
import { NetworkMap } from '../../../../lib/swarm/dht/network-map.ts'
import {
  type BootstrapEntry,
  createBootstrap,
  onceAtATime,
  type ResolveName,
  resolveBootstrap,
  resolveName,
} from '../../../../lib/swarm/members/bootstrap.ts'
import type { NodeAddress } from '../../../../lib/swarm/node.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { idOf, SimulatedDht, seeded } from '../../../doubles/simulated-dht.ts'
import { never } from '../../../fixtures/layout.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'
import { within } from '../../../fixtures/wait.ts'

const SELF = { host: '192.0.2.1', port: 5001 }
const host = (name: string, port = 5001): BootstrapEntry => ({ kind: 'host', host: name, port })
const dns = (name: string, port = 5001): BootstrapEntry => ({ kind: 'dns', host: name, port })

/** A resolver that knows some names, and records the names that it was asked for. */
function resolver(names: Readonly<Record<string, readonly string[]>>) {
  const asked: string[] = []
  const resolve = async (name: string) => {
    asked.push(name)
    return names[name] ?? Promise.reject(new Error(`getaddrinfo ENOTFOUND ${name}`))
  }
  return { asked, resolve }
}

test('resolveBootstrap returns addresses as they are, without asking a resolver', async () => {
  const { asked, resolve } = resolver({})
  const entries = [host('192.0.2.2'), dns('192.0.2.3'), host('192.0.2.2'), host('192.0.2.2', 7)]
  const onFailure = (name: string) => assert.fail(name)
  assert.deepEqual(await resolveBootstrap({ resolve, onFailure }, entries, SELF, never), [
    { host: '192.0.2.2', port: 5001 },
    { host: '192.0.2.3', port: 5001 },
    { host: '192.0.2.2', port: 7 },
  ])
  assert.deepEqual(asked, [])
})

test('resolveBootstrap returns one address of a host, and all of a DNS name', async () => {
  const { resolve } = resolver({ node: ['192.0.2.2', '192.0.2.3'], swarm: ['192.0.2.3', '192.0.2.4'] })
  assert.deepEqual(await resolveBootstrap({ resolve }, [host('node'), dns('swarm')], SELF, never), [
    { host: '192.0.2.2', port: 5001 },
    { host: '192.0.2.3', port: 5001 },
    { host: '192.0.2.4', port: 5001 },
  ])
})

test('resolveBootstrap omits its own address, but not another port of the same host', async () => {
  const { resolve } = resolver({ swarm: [SELF.host, '192.0.2.2'], other: [SELF.host] })
  const entries = [host(SELF.host), dns('swarm'), dns('other', 5002)]
  assert.deepEqual(await resolveBootstrap({ resolve }, entries, SELF, never), [
    { host: '192.0.2.2', port: 5001 },
    { host: SELF.host, port: 5002 },
  ])
})

test('resolveBootstrap reports names that do not resolve, and those that do, and goes on with the others', async () => {
  const { resolve } = resolver({ here: ['192.0.2.2'], empty: [] })
  const [resolved, failed]: [string[], [string, unknown][]] = [[], []]
  const found = await resolveBootstrap(
    { resolve, onResolved: (name) => resolved.push(name), onFailure: (name, error) => failed.push([name, `${error}`]) },
    [dns('gone'), dns('empty'), host('here')],
    SELF,
    never,
  )
  assert.deepEqual(found, [{ host: '192.0.2.2', port: 5001 }])
  assert.deepEqual(new Set(resolved), new Set(['empty', 'here']))
  assert.deepEqual(failed, [['gone', 'Error: getaddrinfo ENOTFOUND gone']])
})

test('resolveBootstrap waits for no resolver longer than its signal, and keeps what has resolved', async () => {
  const failed: string[] = []
  const resolve = (name: string) =>
    name === 'slow' ? new Promise<never>(() => undefined) : Promise.resolve(['192.0.2.2'])
  const stop = new AbortController()
  const onFailure = (name: string) => failed.push(name)
  const resolving = resolveBootstrap({ resolve, onFailure }, [dns('slow'), dns('here')], SELF, stop.signal)
  stop.abort()
  assert.deepEqual(await within('the addresses', resolving, 2_000), [{ host: '192.0.2.2', port: 5001 }])
  assert.deepEqual(failed, ['slow'])
})

/** The bootstrap of a node in a simulated DHT, which finds no other nodes than those it is given. */
function bootstrapping(
  resolve: ResolveName,
  entries: readonly BootstrapEntry[],
  remembered: readonly NodeAddress[] = [],
  intervals?: readonly [number, number],
) {
  const { log, lines } = createLogRecorder()
  const readiness = new Readiness()
  const clock = new ManualClock()
  const dht = new SimulatedDht(clock, seeded(1))
  const map = new NetworkMap({ ...SELF, id: idOf(SELF) })
  const client = createDhtClient(dht.rpc(SELF), map, clock)
  const explored: string[][] = []
  let looks = 0
  const discovery = {
    explore: async (nodes: readonly NodeAddress[]) => {
      explored.push(nodes.map(({ host: at }) => at))
    },
  }
  const bootstrap = createBootstrap(
    { log, readiness, resolve, dht: client, discovery, remembered: () => remembered, looked: () => looks++, clock },
    { entries, self: SELF, intervals },
  )
  const node = (at: string) => client.nodeAt({ host: at, port: 5001 })
  return { bootstrap, clock, explored, looks: () => looks, map, node, readiness, lines }
}

test('Bootstrap asks for a name again only once its resolver has answered', async () => {
  const asked: string[] = []
  let answer = Promise.withResolvers<readonly string[]>()
  const resolve = onceAtATime((name) => {
    asked.push(name)
    return answer.promise
  })
  const { bootstrap, explored } = bootstrapping(resolve, [dns('one'), dns('two'), host('one', 7)])
  // It does not wait for the names.
  for (let time = 0; time < 3; time++) await bootstrap.look(AbortSignal.abort())
  assert.deepEqual(asked, ['one', 'two'])
  answer.resolve(['192.0.2.2'])
  await bootstrap.look(never)
  assert.deepEqual(explored.at(-1), [SELF.host, '192.0.2.2', '192.0.2.2'])
  answer = Promise.withResolvers()
  answer.reject(new Error('ENOTFOUND'))
  await bootstrap.look(never)
  assert.deepEqual(asked, ['one', 'two', 'one', 'two'])
  assert.deepEqual(explored.at(-1), [SELF.host])
})

test('Bootstrap looks again and again, more often while the node is alone, and at once when it is alone again', async () => {
  const remembered = [{ host: '192.0.2.9', port: 5001 }]
  const { bootstrap, clock, explored, looks, map, node } = bootstrapping(
    async () => [],
    [host('192.0.2.2')],
    remembered,
    [100, 10_000],
  )
  bootstrap.start()
  await clock.pass(350)
  assert.deepEqual(explored, new Array(4).fill([SELF.host, '192.0.2.2', '192.0.2.9']))
  assert.equal(looks(), 4)
  map.answered(node('192.0.2.3'), clock.now())
  await clock.pass(100)
  assert.deepEqual(explored.at(-1), [SELF.host, '192.0.2.2', '192.0.2.9'].slice(0, 2))
  assert.equal(looks(), 5)
  await clock.pass(7_000)
  assert.equal(looks(), 5)
  await clock.pass(6_000)
  assert.equal(looks(), 6)
  map.lose(node('192.0.2.3'), clock.now())
  await clock.pass(101)
  assert.equal(looks(), 7)
  await bootstrap.close()
  map.answered(node('192.0.2.3'), clock.now())
  map.lose(node('192.0.2.3'), clock.now())
  await clock.pass(20_000)
  assert.equal(looks(), 7)
  assert.equal(clock.pending, 0)
})

test("resolveName asks the system's resolver for IPv4 addresses, once at a time whoever asks", async () => {
  assert.equal(resolveName('localhost'), resolveName('localhost'))
  assert.ok((await resolveName('localhost')).includes('127.0.0.1'))
})

test('Bootstrap warns of a name once, counts from then on, and tells when the name resolves', async () => {
  let isThere = false
  const resolve = async () => (isThere ? ['192.0.2.2'] : Promise.reject(new Error('ENOTFOUND')))
  const { bootstrap, lines } = bootstrapping(resolve, [dns('swarm')])
  const look = async (times: number) => {
    for (let time = 0; time < times; time++) await bootstrap.look(never)
  }
  const told = () => lines.map(({ level, event, fields }) => [level, event, fields.name, fields.failures])
  await look(5)
  const warned = ['warn', 'bootstrap name does not resolve', 'swarm', undefined]
  assert.deepEqual(told(), [warned])
  isThere = true
  await look(2)
  assert.deepEqual(told(), [warned, ['info', 'bootstrap name resolves', 'swarm', 5]])
  isThere = false
  await look(2)
  assert.deepEqual(told().slice(2), [warned])
  await bootstrap.close()
})

test('Bootstrap is not ready while no name has ever resolved, and names those that do not', async () => {
  const known = new Set<string>()
  const resolve = async (name: string) => (known.has(name) ? ['192.0.2.2'] : Promise.reject(new Error('ENOTFOUND')))
  const { bootstrap, readiness } = bootstrapping(resolve, [dns('one'), host('two')])
  assert.deepEqual(readiness.reasons, [])
  for (let time = 0; time < 2; time++) {
    await bootstrap.look(never)
    assert.deepEqual(readiness.reasons, ['no bootstrap name has resolved yet: one, two'])
  }
  known.add('two')
  await bootstrap.look(never)
  assert.deepEqual(readiness.reasons, [])
  // A later failure of DNS does not matter, because the node knows others, or has been the first.
  known.clear()
  await bootstrap.look(never)
  assert.deepEqual(readiness.reasons, [])
})

test('Bootstrap is ready, whatever names do, if there is an address or other nodes are known', async () => {
  const resolve = () => Promise.reject(new Error('ENOTFOUND'))
  const withAddress = bootstrapping(resolve, [dns('one'), host('192.0.2.2')])
  await withAddress.bootstrap.look(never)
  assert.deepEqual(withAddress.readiness.reasons, [])
  const alone = bootstrapping(resolve, [dns('one')])
  await alone.bootstrap.look(never)
  assert.equal(alone.readiness.reasons.length, 1)
  alone.map.answered(alone.node(SELF.host), 0)
  assert.equal(alone.readiness.reasons.length, 1)
  alone.map.answered(alone.node('192.0.2.3'), 0)
  assert.deepEqual(alone.readiness.reasons, [])
})
