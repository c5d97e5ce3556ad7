// Peers in their own processes, on all three runtimes: lib/udx against the addon and against itself, only on loopback. The test
// runs only on Node, because it starts the other runtimes itself.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Kind, onNode, Peer } from '../unit/udx/support/peers.ts'
import { GIVE_UP_TIME } from '../unit/udx/support/streams.ts'

const MB = 1024 * 1024
/** Bytes of a transfer: hundreds of times what members send each other. */
const SIZE = 256 * 1024
const LOSSY_SIZE = 16 * 1024
const skip = onNode ? false : 'starts all three runtimes itself, so it runs once, on Node'
if (skip) console.log(`interop: skipped: ${skip}`)

/** Client and server of each pair. */
const PAIRS: readonly (readonly [Kind, Kind])[] = [
  ...(['bun', 'deno', 'node'] as const).flatMap((client) =>
    (['addon', 'bun', 'deno'] as const).map((server) => [client, server] as const),
  ),
  ...(['bun', 'deno', 'node'] as const).map((server) => ['addon', server] as const),
]

/** Starts peers around a bootstrapper, passes them to `use`, and stops them. Each must end by itself. */
async function withPeers(kinds: readonly Kind[], use: (...peers: Peer[]) => Promise<void>, mutate = 0): Promise<void> {
  const bootstrapper = await Peer.start('addon')
  const peers = [bootstrapper as Peer]
  try {
    const started = kinds.map(async (kind, i) => {
      const options = { bootstrap: bootstrapper.port, seed: 11 + i, mutate: i === 0 ? mutate : 0 }
      peers[1 + i] = await Peer.start(kind, options)
    })
    // If one does not start, the others must be ended.
    for (const result of await Promise.allSettled(started)) if (result.status === 'rejected') throw result.reason
    await use(...peers.slice(1))
    const ended = await Promise.all(peers.map((peer) => peer.stop()))
    assert.ok(ended.every(Boolean), `ended by themselves after stop: ${ended}`)
  } finally {
    for (const peer of peers) peer?.process.kill('SIGKILL')
  }
}

async function listen(peer: Peer): Promise<string> {
  const { publicKey } = await peer.do({ do: 'listen' })
  assert.ok(publicKey !== undefined)
  return publicKey
}

// Two at a time, because they spend much time waiting.
describe('interop', { concurrency: 2 }, () => {
  for (const [at, [client, server]] of PAIRS.entries()) {
    test(
      `interop of ${client} with ${server}: announce, lookup, transfers with and without loss, 200 streams`,
      { skip },
      () =>
        withPeers([client, server], async (a, b) => {
          const peers = [a, b] as [Peer, Peer]
          // Topics of their own, because a node of another pair may get a port that this swarm still knows.
          const topics = [2 * at + 1, 2 * at + 2].map((byte) => byte.toString(16).padStart(2, '0').repeat(32))
          await peers[0].do({ do: 'announce', topics: topics.slice(0, 1) })
          await peers[1].do({ do: 'announce', topics: topics.slice(1) })
          for (const peer of peers) assert.equal((await peer.do({ do: 'lookup', topics })).found, 2)

          const publicKey = await listen(peers[1])
          const both = async (bytes: number) => {
            for (const direction of ['up', 'down'] as const)
              await peers[0].do({ do: 'transfer', publicKey, direction, bytes })
          }
          await both(SIZE)
          await peers[0].do({ do: 'parallel', publicKey, streams: 200, bytes: 16 * 1024 })

          const lossy = peers.filter(({ kind }) => kind !== 'addon')
          for (const peer of lossy) await peer.do({ do: 'lose', share: 0.05 })
          await both(LOSSY_SIZE)
          for (const peer of lossy) await peer.do({ do: 'lose', share: 0 })
        }),
    )
  }

  test('interop survives a peer that is killed: ETIMEDOUT within the documented time', { skip }, () =>
    withPeers(['bun', 'deno', 'node', 'addon', 'addon', 'addon'], async (...peers) => {
      const clients = peers.slice(0, 3)
      const servers = peers.slice(3)
      await Promise.all(
        clients.map(async (client, i) => {
          const server = servers[i] as Peer
          const publicKey = await listen(server)
          await client.do({ do: 'transfer', publicKey, direction: 'up', bytes: 1024 })
          const broken = client.try({ do: 'transfer', publicKey, direction: 'up', bytes: 1024 * MB })
          await server.do({ do: 'receive', bytes: MB })
          await server.kill()
          const killed = performance.now()
          const { ok, code } = await broken
          const took = performance.now() - killed
          assert.equal(ok, false)
          assert.equal(code, 'ETIMEDOUT')
          // Two seconds are the longest interval between probes; the rest is for a busy machine.
          assert.ok(took > GIVE_UP_TIME - 1_000 && took < GIVE_UP_TIME + 10_000, `${client.kind}: after ${took} ms`)
        }),
      )
    }),
  )

  test('interop survives 10,000 mutated packets in a live stream', { skip }, async () => {
    for (const [client, server] of [
      ['bun', 'addon'],
      ['node', 'bun'],
      ['node', 'deno'],
      ['deno', 'node'],
    ] as const) {
      await withPeers(
        [client, server],
        async (a, b) => {
          const peers = [a, b] as [Peer, Peer]
          const publicKey = await listen(peers[1])
          const { mutated } = await peers[0].do({ do: 'transfer', publicKey, direction: 'up', bytes: 4 * MB })
          assert.equal(mutated, 10_000)
          await peers[0].do({ do: 'transfer', publicKey, direction: 'down', bytes: SIZE })
        },
        10_000,
      )
    }
  })
})
