import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type BootstrapEntry, resolveBootstrap, resolveName } from '../../../../lib/swarm/members/bootstrap.ts'
import { Bootstrapping } from '../../../../lib/swarm/members/bootstrapping.ts'
import { never } from '../../../fixtures/layout.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'
import { within } from '../../../fixtures/wait.ts'

const SELF = { host: '192.0.2.1', port: 5001 }
const host = (name: string, port = 5001): BootstrapEntry => ({ kind: 'host', host: name, port })
const dns = (name: string, port = 5001): BootstrapEntry => ({ kind: 'dns', host: name, port })

/** A resolver that knows some names and remembers for which it was asked. */
function resolver(names: Readonly<Record<string, readonly string[]>>) {
  const asked: string[] = []
  const resolve = async (name: string) => {
    asked.push(name)
    return names[name] ?? Promise.reject(new Error(`getaddrinfo ENOTFOUND ${name}`))
  }
  return { asked, resolve }
}

test('resolveBootstrap gives addresses as they are, without asking for them', async () => {
  const { log, lines } = createLogRecorder()
  const { asked, resolve } = resolver({})
  const entries = [host('192.0.2.2'), dns('192.0.2.3'), host('192.0.2.2'), host('192.0.2.2', 7)]
  assert.deepEqual(await resolveBootstrap({ log, resolve }, entries, SELF, never), [
    { host: '192.0.2.2', port: 5001 },
    { host: '192.0.2.3', port: 5001 },
    { host: '192.0.2.2', port: 7 },
  ])
  assert.deepEqual([asked, lines], [[], []])
})

test('resolveBootstrap gives one address of a host, and all of a DNS name', async () => {
  const { log } = createLogRecorder()
  const { resolve } = resolver({ node: ['192.0.2.2', '192.0.2.3'], swarm: ['192.0.2.3', '192.0.2.4'] })
  assert.deepEqual(await resolveBootstrap({ log, resolve }, [host('node'), dns('swarm')], SELF, never), [
    { host: '192.0.2.2', port: 5001 },
    { host: '192.0.2.3', port: 5001 },
    { host: '192.0.2.4', port: 5001 },
  ])
})

test('resolveBootstrap leaves out the own address, but not another port of the same host', async () => {
  const { log } = createLogRecorder()
  const { resolve } = resolver({ swarm: [SELF.host, '192.0.2.2'], other: [SELF.host] })
  const entries = [host(SELF.host), dns('swarm'), dns('other', 5002)]
  assert.deepEqual(await resolveBootstrap({ log, resolve }, entries, SELF, never), [
    { host: '192.0.2.2', port: 5001 },
    { host: SELF.host, port: 5002 },
  ])
})

test('resolveBootstrap logs a name that does not resolve and goes on with the others', async () => {
  const { log, lines } = createLogRecorder()
  const { resolve } = resolver({ here: ['192.0.2.2'], empty: [] })
  const found = await resolveBootstrap({ log, resolve }, [dns('gone'), dns('empty'), host('here')], SELF, never)
  assert.deepEqual(found, [{ host: '192.0.2.2', port: 5001 }])
  assert.equal(lines.length, 1)
  assert.deepEqual([lines[0]?.level, lines[0]?.fields.name], ['warn', 'gone'])
})

test('resolveBootstrap waits for no resolver longer than its signal, and keeps what has resolved', async () => {
  const { log, lines } = createLogRecorder()
  const resolve = (name: string) =>
    name === 'slow' ? new Promise<never>(() => undefined) : Promise.resolve(['192.0.2.2'])
  const stop = new AbortController()
  const resolving = resolveBootstrap({ log, resolve }, [dns('slow'), dns('here')], SELF, stop.signal)
  stop.abort()
  assert.deepEqual(await within('the addresses', resolving, 2_000), [{ host: '192.0.2.2', port: 5001 }])
  assert.equal(lines[0]?.fields.name, 'slow')
})

test('Bootstrapping asks for a name again only once its resolver has answered', async () => {
  const { log } = createLogRecorder()
  const asked: string[] = []
  let answer = Promise.withResolvers<readonly string[]>()
  const resolve = (name: string) => {
    asked.push(name)
    return answer.promise
  }
  const explored: string[][] = []
  const bootstrapping = new Bootstrapping(
    {
      log,
      resolve,
      contacts: { map: { others: 0, get: () => undefined }, nodeAt: (address: object) => address } as never,
      scout: {
        explore: async (nodes: readonly { readonly host: string }[]) => {
          explored.push(nodes.map(({ host: at }) => at))
        },
      } as never,
      remembered: () => [],
    },
    { entries: [dns('one'), dns('two'), host('one', 7)], self: SELF },
  )
  // Each time, the names are not waited for.
  for (let time = 0; time < 3; time++) await bootstrapping.attend(AbortSignal.abort())
  assert.deepEqual(asked, ['one', 'two'])
  answer.resolve(['192.0.2.2'])
  await bootstrapping.attend(never)
  assert.deepEqual(explored.at(-1), [SELF.host, '192.0.2.2', '192.0.2.2'])
  answer = Promise.withResolvers()
  answer.reject(new Error('ENOTFOUND'))
  await bootstrapping.attend(never)
  assert.deepEqual(asked, ['one', 'two', 'one', 'two'])
  assert.deepEqual(explored.at(-1), [SELF.host])
})

test("resolveName asks the system's resolver for IPv4 addresses", async () => {
  assert.ok((await resolveName('localhost')).includes('127.0.0.1'))
})
