import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestKey, tagKey } from '../../../lib/oci/key.ts'
import { createPolicy, type PolicyOptions } from '../../../lib/oci/policy.ts'
import {
  createTracer,
  type TracePart,
  type TracerDependencies,
  type TracerOptions,
  type TraceStep,
} from '../../../lib/page/trace.ts'
import { unlessAborted } from '../../../lib/platform/abort.ts'
import type { Peer } from '../../../lib/swarm/router.ts'
import { startAbsentPeer, startHttpPeer, startPeer, startRawPeer, type TestPeer } from '../../doubles/http-peer.ts'
import { makeParts } from '../../doubles/http-peers.ts'
import { createMemoryStore, type MemoryStore } from '../../doubles/memory-store.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'
import { peerOf } from '../../doubles/peers.ts'
import { bySwarm } from '../../fixtures/door.ts'
import { contentOf, type Image, makeImage, makeIndex } from '../../fixtures/image.ts'
import { never, tagged } from '../../fixtures/layout.ts'
import { proving } from '../../fixtures/proving.ts'

const NAME = 'registry.example/team/app:1'
const image = makeImage({ layers: 2 })
const OPTIONS: TracerOptions = { lookupTimeout: 100, resolution: bySwarm }

interface Setting {
  readonly store: MemoryStore
  /** Starts a good peer with the image, and returns its address. */
  hold(held?: Image): Promise<TestPeer>
  /** Makes a peer announce the image, whatever it answers later. */
  announce(peer: TestPeer, held?: Image): void
  run(reference: string, signal?: AbortSignal): Promise<readonly TraceStep[]>
  readonly dependencies: TracerDependencies
}

async function withTracer(use: (setting: Setting) => Promise<void>, policy: PolicyOptions = {}, limit?: number) {
  await using closing = new AsyncDisposableStack()
  const { client, credentials, known } = makeParts(undefined, { headTimeout: 600 })
  closing.defer(() => client.close())
  const swarm = new MemorySwarm()
  const store = createMemoryStore()
  const router = swarm.join(peerOf('self'))
  const dependencies = { store, policy: createPolicy(policy), router, client, credentials, known }
  const trace = createTracer(dependencies, { ...OPTIONS, ...(limit === undefined ? {} : { limit }) })
  const announce = (peer: TestPeer, held = image) => {
    closing.defer(() => peer.close())
    const keys = held.contents.map(({ descriptor }) => digestKey(descriptor.digest))
    swarm.join(peer.peer).advertise([...keys, tagKey(tagged(NAME))])
  }
  await use({
    store,
    dependencies,
    announce,
    async hold(held = image) {
      const held_ = createMemoryStore()
      held_.addImage(held, tagged(NAME))
      const peer = await startPeer(held_)
      announce(peer, held)
      return peer
    },
    async run(reference, signal = never) {
      const steps: TraceStep[] = []
      await trace(reference, (step) => steps.push(step), signal)
      return steps
    },
  })
}

function partsOf(steps: readonly TraceStep[]): readonly TracePart[] {
  return steps.flatMap((step) => (step.step === 'part' ? [step.part] : []))
}

function problemOf(steps: readonly TraceStep[]): string | undefined {
  const end = steps.at(-1)
  return end?.step === 'end' ? end.problem : 'no end'
}

const addressOf = ({ host, port }: Peer) => `${host}:${port}`

test('createTracer goes from the tag to every layer, and tells who has what and how long that took', async () => {
  await withTracer(async ({ hold, run }) => {
    const peer = await hold()
    const steps = await run('registry.example/team/app:1')
    assert.deepEqual(steps[0], { step: 'name', name: NAME, lookupTimeout: 100 })
    assert.equal(problemOf(steps), undefined)
    const parts = partsOf(steps)
    assert.deepEqual(
      parts.map(({ role }) => role),
      ['tag', 'manifest', 'config', 'layer', 'layer'],
    )
    assert.deepEqual(
      new Set(parts.slice(1).map(({ key }) => key)),
      new Set(image.contents.map(({ descriptor }) => String(descriptor.digest))),
    )
    for (const { isLocal, found, answers, firstPeerMs, lookupMs, role } of parts) {
      assert.deepEqual([isLocal, found, answers.length], [false, 1, 1])
      const [answer] = answers
      assert.equal(answer?.outcome, 'content')
      assert.equal(answer?.address, addressOf(peer.peer))
      assert.ok(firstPeerMs !== undefined && firstPeerMs <= lookupMs)
      assert.equal(answer?.firstByteMs === undefined, role === 'tag')
    }
  })
})

test('createTracer tells parts in the order of the manifest, whichever answers first', async () => {
  await withTracer(async ({ hold, dependencies }) => {
    await hold()
    const [, config, ...layers] = image.contents.map(({ descriptor }) => descriptor.digest)
    const asked = new Set<string>()
    const all = Promise.withResolvers<void>()
    const { store } = dependencies
    const slow: typeof store = {
      ...store,
      async describe(digest, signal) {
        asked.add(digest)
        if (layers.every((layer) => asked.has(layer))) all.resolve()
        // The answer for the config comes after those for the layers.
        if (digest === config) await all.promise.then(() => new Promise((resolve) => setImmediate(resolve)))
        return await store.describe(digest, signal)
      },
    }
    const steps: TraceStep[] = []
    await createTracer({ ...dependencies, store: slow }, OPTIONS)(NAME, (step) => steps.push(step), never)
    assert.deepEqual(
      partsOf(steps).map(({ role }) => role),
      ['tag', 'manifest', 'config', 'layer', 'layer'],
    )
    assert.equal(problemOf(steps), undefined)
  })
})

test('createTracer tells what this node has, without a peer', async () => {
  await withTracer(async ({ store, run }) => {
    store.addImage(image, tagged(NAME))
    const steps = await run(NAME)
    assert.equal(problemOf(steps), undefined)
    const parts = partsOf(steps)
    assert.equal(parts.length, 5)
    assert.ok(parts.every(({ isLocal, found, answers }) => isLocal && found === 0 && answers.length === 0))
  })
})

test('createTracer picks the manifest of this architecture from an index', async () => {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch
  const own = makeImage({ seed: 2, platform: { os: 'linux', architecture } })
  const index = makeIndex([makeImage({ seed: 3, platform: { os: 'linux', architecture: 's390x' } }), own])
  await withTracer(async ({ hold, run }) => {
    await hold(index)
    const parts = partsOf(await run(NAME))
    assert.deepEqual(
      parts.slice(0, 4).map(({ role }) => role),
      ['tag', 'index', 'manifest', 'config'],
    )
    assert.equal(parts[2]?.key, own.target.digest)
  })
})

test('createTracer asks for a digest without a tag', async () => {
  await withTracer(
    async ({ hold, run }) => {
      await hold()
      const steps = await run(`registry.example/team/app@${image.target.digest}`)
      assert.equal(problemOf(steps), undefined)
      assert.equal(partsOf(steps)[0]?.role, 'manifest')
    },
    { resolvesTags: false },
  )
})

test('createTracer says why it goes no further', async () => {
  await withTracer(async ({ run }) => {
    assert.match(problemOf(await run('Nonsense')) ?? '', /invalid repository/)
    assert.match(problemOf(await run('')) ?? '', /invalid repository/)
    const unknown = await run(NAME)
    assert.match(problemOf(unknown) ?? '', /neither this node nor a peer knows the tag/)
    assert.deepEqual(
      partsOf(unknown).map(({ role, found }) => [role, found]),
      [['tag', 0]],
    )
    const digest = await run(`registry.example/team/app@${image.target.digest}`)
    assert.match(problemOf(digest) ?? '', /nobody in the swarm has this manifest/)
  })
  await withTracer(async ({ run }) => assert.match(problemOf(await run(NAME)) ?? '', /--resolve upstream/), {
    resolvesTags: false,
  })
  await withTracer(async ({ run }) => assert.match(problemOf(await run(NAME)) ?? '', /not mirrored/), {
    registries: new Set(['docker.io']),
  })
})

test('createTracer tells how peers fail, without consequences for them', async () => {
  await withTracer(async ({ hold, announce, run, dependencies }) => {
    const absent = await startAbsentPeer()
    announce(absent)
    const silent = await startRawPeer(() => undefined)
    announce(silent)
    const stranger = await startRawPeer((socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'))
    announce(stranger)
    await hold()
    const steps = await run(NAME)
    assert.equal(problemOf(steps), undefined)
    const outcomes = new Map(partsOf(steps)[1]?.answers.map(({ address, outcome }) => [address, outcome]))
    assert.equal(outcomes.get(addressOf(absent.peer)), 'unreachable')
    assert.equal(outcomes.get(addressOf(silent.peer)), 'silent')
    assert.equal(outcomes.get(addressOf(stranger.peer)), 'invalid')
    assert.deepEqual(dependencies.known.peers(), [])
  })
})

test('createTracer calls a peer silent that sends a head, and then no byte or too few', async () => {
  await withTracer(async ({ announce, dependencies }) => {
    const { mediaType, digest, size } = image.target
    const head = { 'content-type': mediaType, 'docker-content-digest': digest, 'content-length': size }
    for (const start of ['', '{"schemaVersion"']) {
      const frozen = proving((_, outgoing) => {
        outgoing.writeHead(200, head)
        outgoing.flushHeaders()
        outgoing.write(start)
      })
      announce(await startHttpPeer(frozen))
    }
    const steps: TraceStep[] = []
    const trace = createTracer(dependencies, { ...OPTIONS, patience: 100 })
    await trace(`registry.example/team/app@${digest}`, (step) => steps.push(step), never)
    const answers = partsOf(steps).flatMap((part) => part.answers)
    assert.deepEqual(
      answers.map(({ outcome, problem }) => [outcome, problem]),
      [1, 2].map(() => ['silent', 'headers, but then too few bytes within 100 ms']),
    )
  })
})

test('createTracer does not believe a manifest that does not match its digest', async () => {
  await withTracer(async ({ announce, run }) => {
    const store = createMemoryStore()
    const wrong = contentOf(image.target.mediaType, new TextEncoder().encode('{}'))
    store.add({ ...wrong, descriptor: { ...image.target, size: wrong.bytes.length } })
    announce(await startPeer(store))
    const steps = await run(`registry.example/team/app@${image.target.digest}`)
    assert.match(problemOf(steps) ?? '', /nobody in the swarm has this manifest/)
  })
})

test('createTracer ends in time and with its signal, and says so', async () => {
  const slow = (setting: Setting) => {
    const router = setting.dependencies.router
    // A lookup that runs until it is ended.
    router.lookup = async function* (_, signal) {
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve()
        else signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
  }
  await withTracer(
    async (setting) => {
      slow(setting)
      assert.match(problemOf(await setting.run(NAME)) ?? '', /stopped/)
    },
    {},
    30,
  )
  await withTracer(async (setting) => {
    slow(setting)
    assert.match(problemOf(await setting.run(NAME, AbortSignal.abort())) ?? '', /stopped/)
  })
})

test('createTracer goes on with the peers when this node itself does not answer, and says so', async () => {
  await withTracer(async ({ hold, dependencies }) => {
    await hold()
    let asked = 0
    const hang = (signal: AbortSignal) => {
      asked++
      return unlessAborted(new Promise<never>(() => undefined), signal)
    }
    const store: TracerDependencies['store'] = {
      ...dependencies.store,
      resolve: (_reference, signal) => hang(signal),
      describe: (_digest, signal) => hang(signal),
      open: (_digest, _range, signal) => hang(signal),
    }
    const steps: TraceStep[] = []
    const trace = createTracer({ ...dependencies, store }, { ...OPTIONS, patience: 200 })
    await trace(NAME, (step) => steps.push(step), never)
    const parts = partsOf(steps)
    assert.deepEqual(
      parts.map(({ role }) => role),
      ['tag', 'manifest', 'config', 'layer', 'layer'],
    )
    for (const { isLocal, localProblem, answers } of parts) {
      assert.deepEqual([isLocal, localProblem], [false, 'not done within 200 ms'])
      assert.equal(answers[0]?.outcome, 'content')
    }
    assert.equal(problemOf(steps), undefined)
    // After one wait in vain the trace does not wait again.
    assert.equal(asked, 1)
  })
})
