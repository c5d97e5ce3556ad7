/** Operators change the swarm key of running mirrors, with TLS. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startMirror } from '../../lib/mirror/mirror.ts'
import { silentLogger } from '../../lib/observe/log.ts'
import { digestKey } from '../../lib/oci/key.ts'
import { PROOF_HEADER } from '../../lib/peers/credentials.ts'
import { addressOf } from '../../lib/platform/address.ts'
import { digestOf, makeImage } from '../fixtures/image.ts'
import { ownAddress, PEER_PORT } from '../fixtures/loopback.ts'
import { startMember } from '../fixtures/members.ts'
import { LOOPBACK, withImageLayout } from '../fixtures/mirror.ts'
import type { MirrorProcess } from '../fixtures/mirror-process.ts'
import { type Flags, layerPath, type Mirrors, portOf, withMirrors } from '../fixtures/mirrors.ts'
import { readSettings } from '../fixtures/settings.ts'
import { inTime, waitFor, within } from '../fixtures/wait.ts'

const OLD = new Uint8Array(32).fill(31)
const NEW = new Uint8Array(32).fill(32)
const image = makeImage({ layers: 1, layerSize: 300_000 })
const LAYER = image.contents.at(-1)?.descriptor ?? assert.fail('no layer')

const textOf = (...keys: readonly Uint8Array[]) => keys.map((key) => Buffer.from(key).toString('base64url')).join(',')

/** Asks a registry door for the layer. */
async function ask(registry: string) {
  const response = await fetch(`http://${registry}${layerPath(image)}`)
  const body = new Uint8Array(await response.arrayBuffer())
  const right = digestOf(body) === LAYER.digest && response.headers.get('x-swarmirror-source') === 'peer'
  return { status: response.status, right }
}

async function holds(registry: string): Promise<void> {
  await waitFor('the layer comes', async () => (await ask(registry)).right)
}

// With TLS, where the authorities change as well.
test('mirror changes its key in three rounds of restarts, and no pull fails', async () => {
  await withMirrors(async ({ start }: Mirrors) => {
    const hosts = [0, 1, 2].map(ownAddress)
    const bootstrap = hosts.map((host) => `${host}:${PEER_PORT}`).join(',')
    const mirrors: MirrorProcess[] = []
    /** Starts the mirror with that number at its address. The first two hold the image, and the third one pulls. */
    const launch = async (index: number, keys: readonly Uint8Array[]) => {
      const flags: Flags = {
        'peer-listen': `${hosts[index]}:${PEER_PORT}`,
        bootstrap,
        'peer-transfer': 'tls',
        // A busy machine must not turn a hit into a miss.
        'lookup-timeout': '10s',
      }
      mirrors[index] = await start(index < 2 ? image : undefined, { ...flags, 'swarm-key': textOf(...keys) })
    }
    for (let index = 0; index < 3; index++) await launch(index, [OLD])
    const puller = () => mirrors[2] ?? assert.fail('no puller')
    await holds(puller().registry)
    // A rolling restart waits until a node is back before the next one stops. A node is back when lookups find it.
    const probe = await startMember([], {
      swarmKeys: [NEW, OLD],
      bootstrap: hosts.map((host) => ({ kind: 'host', host, port: PEER_PORT })),
    })
    const isFound = async (host: string | undefined) => {
      for await (const peer of probe.router.lookup(digestKey(LAYER.digest), AbortSignal.timeout(2_000))) {
        if (peer.host === host) return true
      }
      return false
    }
    // Otherwise the only node that keeps its announcement may be the next one to stop.
    const isAnnounced = async ({ admin }: MirrorProcess) =>
      /^swarmirror_keys_waiting 0$/m.test(await (await fetch(`http://${admin}/metrics`)).text())
    let pulls = 0
    let pulling = true
    let paused: Promise<void> | undefined
    let current: ReturnType<typeof ask> | undefined
    let resume: () => void = () => undefined
    const failures: number[] = []
    const pullOn = async () => {
      while (pulling) {
        await paused
        current = ask(puller().registry)
        const { status, right } = await current
        pulls++
        if (!right) failures.push(status)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    const running = pullOn()
    try {
      for (const keys of [[OLD, NEW], [NEW, OLD], [NEW]]) {
        for (let index = 0; index < 3; index++) {
          // Nobody pulls through a mirror that is down.
          if (index === 2) {
            const back = Promise.withResolvers<void>()
            resume = back.resolve
            paused = back.promise
            await current
          }
          await mirrors[index]?.stop(AbortSignal.timeout(40_000))
          await launch(index, keys)
          if (index < 2) {
            const back = mirrors[index] ?? assert.fail()
            await waitFor('the holder has announced all', () => isAnnounced(back))
            await waitFor('the holder is found', () => isFound(hosts[index]))
          } else await holds(puller().registry)
          // The next one stops when pulls have gone on for a while, as in a cluster.
          const before = pulls
          resume()
          await waitFor('pulls go on', () => pulls > before + 5)
        }
      }
    } finally {
      pulling = false
      resume()
      await within('the last pull', running)
      await probe.router.close()
    }
    assert.deepEqual(failures, [], `of ${pulls} pulls`)
    await withImageLayout(async (layout) => {
      const store = ['--store', `oci-layout:${layout}`]
      const flags = [...LOOPBACK, ...store, '--bootstrap', bootstrap, '--swarm-key', textOf(OLD)]
      const late = await startMirror(readSettings({ flags, environment: {} }), silentLogger)
      try {
        await waitFor('it is refused', () =>
          late.readiness.reasons.some((reason) => / refuse this node: /.test(reason)),
        )
        assert.equal((await ask(addressOf(late.registry))).status, 404, 'the old key is worthless')
      } finally {
        await late.close()
      }
    })
  })
})

test('mirrors that disagree on --peer-transfer miss at once instead of hanging', async () => {
  await withMirrors(async ({ start }) => {
    const key = textOf(NEW)
    for (const [own, other] of [
      ['plain', 'tls'],
      ['tls', 'plain'],
    ] as const) {
      const holder = await start(image, { 'swarm-key': key, 'peer-transfer': own })
      const flags = { 'swarm-key': key, bootstrap: holder.peer }
      const agreeing = await start(undefined, { ...flags, 'peer-transfer': own })
      await holds(agreeing.registry)
      const differing = await start(undefined, { ...flags, 'peer-transfer': other })
      const startedAt = performance.now()
      assert.equal((await ask(differing.registry)).status, 404)
      assert.ok(performance.now() - startedAt < 10_000)
      await holds(agreeing.registry)
    }
  })
})

test('mirror with TLS keeps its content from clients without a certificate', async () => {
  await withMirrors(async ({ start }) => {
    const holder = await start(image, { 'swarm-key': textOf(NEW), 'peer-transfer': 'tls' })
    for (const scheme of ['http', 'https']) {
      const answer = fetch(`${scheme}://127.0.0.1:${portOf(holder.peer)}${layerPath(image)}`, {
        headers: { [PROOF_HEADER]: 'x' },
      })
      await assert.rejects(within('the failure', answer), inTime)
    }
  })
})
