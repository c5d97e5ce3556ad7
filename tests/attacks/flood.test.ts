/** The cost of a stranger who sends all the time: the mirror's doors must answer as fast as without the stranger. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { makeImage } from '../fixtures/image.ts'
import { layerPath, portOf, withMirrors } from '../fixtures/mirrors.ts'
import { joinAsMember, rpcOf } from '../fixtures/swarm.ts'
import { waitFor } from '../fixtures/wait.ts'
import { handshakeFor, withAttackers } from './datagrams.ts'

const SWARM_KEY = Buffer.alloc(32, 21)
const image = makeImage({ layers: 1, layerSize: 20_000 })
/** Datagrams a second. A third as many handshakes stopped a mirror that read them, its registry door included. */
const RATE = 500
/** Milliseconds between two bursts. */
const PACE = 20
/** Milliseconds for which latencies are measured, with and without the flood, in turn. */
const ROUND = 700
const ROUNDS = 3
/** Milliseconds that the slowest answer may take on a busy machine. When a mirror stood still, answers took seconds. */
const FLOOR = 250

/** Asks all URLs in turn for {@link ROUND}. Returns the milliseconds of all answers, in ascending order. */
async function latencies(urls: readonly string[]): Promise<number[]> {
  const taken: number[] = []
  const end = performance.now() + ROUND
  while (performance.now() < end) {
    for (const url of urls) {
      const begin = performance.now()
      const response = await fetch(url)
      await response.arrayBuffer()
      taken.push(performance.now() - begin)
      assert.equal(response.status, 200)
    }
  }
  return taken
}

const p99 = (taken: readonly number[]) => taken.toSorted((a, b) => a - b)[Math.floor(0.99 * taken.length)] ?? 0

/** The public key of the mirror at that port, as a member learns it. */
async function publicKeyOf(port: number): Promise<Uint8Array> {
  const dht = await joinAsMember(port, { swarmKey: SWARM_KEY })
  try {
    return await waitFor('the mirror says who it is', () => rpcOf(dht).identify({ host: '127.0.0.1', port }, 1_000))
  } finally {
    await dht.destroy({ force: true })
  }
}

for (const [what, make] of [
  ['random datagrams', () => randomBytes(1 + Math.floor(Math.random() * 1_200))],
  ['Noise handshakes', handshakeFor],
] as const) {
  test(`a mirror answers at its doors as fast as ever while a stranger sends it ${RATE} ${what} a second`, async () => {
    await withMirrors(({ start }) =>
      withAttackers(1, async (attacker) => {
        const mirror = await start(image, { 'swarm-key': SWARM_KEY.toString('hex') })
        const urls = [`http://${mirror.admin}/livez`, `http://${mirror.registry}${layerPath(image)}`]
        const publicKey = await publicKeyOf(portOf(mirror.peer))
        const datagrams = Array.from({ length: 200 }, () => make(publicKey))
        let sent = 0
        const flood = async (signal: AbortSignal) => {
          const began = performance.now()
          for (let own = 0; !signal.aborted; ) {
            for (; own < ((performance.now() - began) * RATE) / 1_000; own++, sent++)
              await attacker.send(datagrams[sent % datagrams.length] ?? assert.fail(), portOf(mirror.peer))
            await setTimeout(PACE, undefined, { signal }).catch(() => undefined)
          }
        }
        await latencies(urls)
        const quiet: number[] = []
        const flooded: number[] = []
        for (let round = 0; round < ROUNDS; round++) {
          quiet.push(...(await latencies(urls)))
          const stop = new AbortController()
          const flooding = flood(stop.signal)
          flooded.push(...(await latencies(urls)))
          stop.abort()
          await flooding
        }
        const [control, attacked] = [p99(quiet), p99(flooded)]
        assert.ok(attacked <= Math.max(2 * control, FLOOR), `${attacked} ms, without ${control} ms`)
        assert.ok(sent >= (RATE * ROUND * ROUNDS) / 2_000, `${sent} datagrams`)
        const metrics = await (await fetch(`http://${mirror.admin}/metrics`)).text()
        const refused = Number(/^swarmirror_datagrams_refused_total (\d+)$/m.exec(metrics)?.[1])
        assert.ok(refused > sent / 2, `${refused} of ${sent} were refused`)
        assert.equal(attacker.received, 0)
      }),
    )
  })
}
