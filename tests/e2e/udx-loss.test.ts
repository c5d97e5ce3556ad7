// UDX under loss by a real packet filter: peers in their own network namespace, whose loopback drops datagrams. Needs root.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, before, test } from 'node:test'
import { type Kind, onNode, Peer } from '../unit/udx/support/peers.ts'

/** Bytes of a transfer: hundreds of times as many as members send each other. */
const SIZE = 16 * 1024
const NAMESPACE = `udx-loss-${process.pid}`
const isRoot = process.getuid?.() === 0
const skip = !onNode
  ? 'starts all three runtimes itself, so it runs once, on Node'
  : !isRoot && 'needs root: namespaces'

const run = (...[command, ...args]: [string, ...string[]]) =>
  execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
const nft = (...args: string[]) => run('ip', 'netns', 'exec', NAMESPACE, 'nft', ...args)

/** Drops this share of all datagrams, in percent, as they leave and again as they arrive, like two bad ends of a link. */
function drop(percent: number): void {
  nft('flush', 'ruleset')
  nft('add', 'table', 'inet', 'loss')
  for (const hook of ['output', 'input']) {
    nft('add', 'chain', 'inet', 'loss', hook, `{ type filter hook ${hook} priority 0; }`)
    nft(
      'add',
      'rule',
      'inet',
      'loss',
      hook,
      'meta l4proto udp',
      `numgen random mod 100 < ${percent}`,
      'counter',
      'drop',
    )
  }
}

/** The number of datagrams that the filter has dropped so far. */
function dropped(): number {
  const counters = nft('list', 'ruleset')
    .toString()
    .matchAll(/counter packets (\d+)/g)
  return [...counters].reduce((sum, [, packets]) => sum + Number(packets), 0)
}

before(() => {
  if (skip) return
  run('ip', 'netns', 'add', NAMESPACE)
  run('ip', '-n', NAMESPACE, 'link', 'set', 'lo', 'up')
})

after(() => {
  if (!skip) run('ip', 'netns', 'del', NAMESPACE)
})

const PAIRS = [
  ['bun', 'addon'],
  ['deno', 'addon'],
  ['node', 'addon'],
  ['bun', 'bun'],
  ['deno', 'deno'],
  ['bun', 'deno'],
] as const

for (const [client, server] of PAIRS as readonly (readonly [Kind, Kind])[]) {
  test(`udx of ${client} with ${server} carries bytes each way through a filter that drops 5% at both ends`, {
    skip,
  }, async () => {
    drop(0)
    const peers: Peer[] = []
    try {
      const bootstrapper = await Peer.start('addon', { namespace: NAMESPACE })
      peers.push(bootstrapper)
      const options = { namespace: NAMESPACE, bootstrap: bootstrapper.port }
      const a = await Peer.start(client, options)
      peers.push(a)
      const b = await Peer.start(server, options)
      peers.push(b)
      const { publicKey = '' } = await b.do({ do: 'listen' })
      drop(5)
      for (const direction of ['up', 'down'] as const) {
        // The worker compares the digests of the sent and the received bytes.
        const { ms = 0 } = await a.do({ do: 'transfer', publicKey, direction, bytes: SIZE })
        console.log(`${client} ${direction} ${server}: ${ms.toFixed(0)} ms`)
      }
      assert.ok(dropped() > 0, 'the filter dropped something')
      drop(0)
      const ended = await Promise.all(peers.map((peer) => peer.stop()))
      assert.ok(ended.every(Boolean), `ended by themselves after stop: ${ended}`)
    } finally {
      for (const peer of peers) peer.process.kill('SIGKILL')
    }
  })
}
