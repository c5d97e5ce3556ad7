/**
 * Nodes that pull one image at once, with their real doors, transfers and flights, in time that passes as fast as the machine can
 * compute. Connections, the swarm, the registry and containerd are doubles in memory.
 */
import assert from 'node:assert/strict'
import { createFlightMetrics } from '../../../lib/flight/metrics.ts'
import { CLAIM_TIME, createNodeFlight, type NodeFlight } from '../../../lib/flight/node-flight.ts'
import { Followers } from '../../../lib/http/from-arrival.ts'
import { createHttpMetrics } from '../../../lib/http/metrics.ts'
import { createPeerDoor } from '../../../lib/http/peer.ts'
import { createRegistryDoor } from '../../../lib/http/registry.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { digestKey, type Key } from '../../../lib/oci/key.ts'
import type { Content } from '../../../lib/oci/make-image.ts'
import { createPolicy } from '../../../lib/oci/policy.ts'
import type { PeerClient } from '../../../lib/peers/client.ts'
import { PeerError } from '../../../lib/peers/error.ts'
import type { PeerReply } from '../../../lib/peers/http1/connection.ts'
import type { PeerCall } from '../../../lib/peers/http1/head.ts'
import { KnownPeers } from '../../../lib/peers/known-peers.ts'
import { onAbort, unlessAborted, until } from '../../../lib/platform/abort.ts'
import { addressOf } from '../../../lib/platform/address.ts'
import { byteSourceOf } from '../../../lib/platform/byte-source.ts'
import { Arrivals } from '../../../lib/store/arrivals.ts'
import type { Peer } from '../../../lib/swarm/router.ts'
import { createPeerContent } from '../../../lib/transfer/peer-content.ts'
import { freeAdmission } from '../../doubles/admission.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'
import { VirtualClock } from '../../doubles/simulated-network.ts'
import { CREDENTIALS } from '../../fixtures/credentials.ts'
import { bySwarm } from '../../fixtures/door.ts'
import { makeImage } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { createRandom } from '../udx/support/random.ts'

/** What may happen to a node while it pulls. */
export const FAULTS = ['its pull is cancelled', 'it is killed', 'it hangs', 'its registry fails', 'it is slow'] as const
export type Fault = (typeof FAULTS)[number]

export interface Rollout {
  readonly seed: number
  readonly nodes: number
  readonly layers: number
  readonly layerSize: number
  /** Bytes per millisecond between two nodes, and from the registry to each download. */
  readonly link: number
  readonly upstream: number
  /** Whether a download that the mirror gives takes a place, and layers are asked for in any order, as by containerd 2. */
  readonly isContainerd2: boolean
  /** What happens to which node, and when, in milliseconds. */
  readonly faults: readonly { readonly at: number; readonly node: number; readonly fault: Fault }[]
}

/** How many downloads containerd runs at a time. */
const PLACES = 3
/** Milliseconds of a round trip between two nodes, and to the registry. */
const [ROUND_TRIP, FAR] = [1, 20]
/** Milliseconds until the first byte from a slow registry. */
const SLOW = 4_000
/** Bytes that come at a time. */
export const BLOCK = 64 * 1024
/** How often containerd opens a body again without progress. */
const MOST_VAIN = 3
const BASE = '/v2/team/app'

/**
 * Lets all nodes pull, and checks that nothing is left when they are done.
 *
 * @returns how many images left the registry, after how many milliseconds all were done, and how often a node left its parent
 */
export async function rollOut({ seed, nodes: count, layers, layerSize, ...given }: Rollout) {
  const random = createRandom(seed)
  const clock = new VirtualClock()
  const swarm = new MemorySwarm(undefined, clock)
  const [manifest = assert.fail(), , ...contents] = makeImage({ seed, layers, layerSize }).contents
  const nodes = new Map<string, Node>()
  let left = 0

  type Node = ReturnType<typeof makeNode>
  function makeNode(number: number) {
    const self = { host: `10.0.0.${number + 1}`, port: 5001 }
    const member = swarm.join(self)
    const store = createMemoryStore()
    const arrivals = new Arrivals(store)
    const { log, lines } = createLogRecorder()
    const metrics = createMetrics()
    const held = new Set<Key>()
    const flight: NodeFlight = createNodeFlight(
      {
        ...{ members: member, router: member, store: arrivals, self, clock, patientClock: clock, log },
        ...{ holds: (key) => held.has(key), metrics: createFlightMetrics(metrics, () => flight.figures) },
      },
      { lookupTimeout: 1_000, gives: true },
    )
    member.answer(flight.answerTo)
    const followers = new Followers(arrivals, () => flight.room, clock)
    const passing = arrivals.passing.bind(arrivals)
    const peers = createPeerContent(
      {
        ...{ flight, address: addressOf(self), client: { call } as unknown as PeerClient, credentials: CREDENTIALS },
        ...{ known: new KnownPeers(clock), metrics, log, clock, passing },
      },
      { lookupTimeout: 1_000 + CLAIM_TIME, parallelPeers: 3, stallTimeout: 2_000, verify: true },
    )
    const shared = { store, policy: createPolicy(), metrics: createHttpMetrics(metrics), log }
    return {
      ...{ self, member, store, flight, followers, lines, metrics },
      door: createPeerDoor({
        ...{ ...shared, followers, capabilities: CREDENTIALS, address: addressOf(self), maxTransfers: 64 },
      }),
      registry: createRegistryDoor({ ...shared, peers, resolution: bySwarm }),
      hold(content: Content) {
        held.add(digestKey(content.descriptor.digest))
        member.advertise([digestKey(content.descriptor.digest)])
      },
      pulling: new AbortController(),
      /** Aborts when its connections end. */
      dead: new AbortController(),
      hangs: false,
      isSlow: false,
      upstreamFails: false,
      /** How many bodies it is sending. */
      bodies: 0,
    }
  }

  /** A call of a node's peer door, over a connection of its own. */
  async function call(peer: Peer, { method, path, headers }: PeerCall, signal: AbortSignal): Promise<PeerReply> {
    const node = nodes.get(addressOf(peer)) ?? assert.fail()
    await until(clock, clock.now() + ROUND_TRIP, signal)
    if (node.hangs) await unlessAborted(new Promise(() => undefined), signal)
    if (node.dead.signal.aborted) throw new PeerError('refused')
    const gone = new AbortController()
    const broken = AbortSignal.any([gone.signal, node.dead.signal])
    const request = new Request(`http://${addressOf(peer)}${path}`, { method, headers, signal: broken })
    const answered = Promise.resolve(node.door.fetch(request, freeAdmission()))
    using _ = onAbort(signal, () => gone.abort())
    const response = await unlessAborted(answered, broken).catch(() => {
      throw new PeerError('broken')
    })
    const source = byteSourceOf(response)
    let rest = source === undefined ? 0 : Number(response.headers.get('content-length'))
    node.bodies++
    const end = async () => {
      if (!gone.signal.aborted) node.bodies--
      gone.abort()
      await source?.cancel()
    }
    if (rest === 0) await end()
    return {
      status: response.status,
      headers: response.headers,
      body: {
        async next() {
          if (rest === 0) return undefined
          try {
            broken.throwIfAborted()
            const chunk = new Uint8Array((await source?.next()) ?? assert.fail('it is short'))
            if (node.hangs) await unlessAborted(new Promise(() => undefined), broken)
            await until(clock, clock.now() + chunk.length / given.link, broken)
            rest -= chunk.length
            if (rest === 0) await end()
            return chunk
          } catch (cause) {
            await end()
            throw new PeerError('broken', { cause })
          }
        },
        cancel: end,
      },
    }
  }

  /** Asks a node's own mirror. */
  async function ask({ registry, pulling }: Node, path: string, range?: string) {
    const headers = range === undefined ? {} : { range }
    const url = `http://127.0.0.1${BASE}/${path}?ns=registry.example`
    return await registry.fetch(new Request(url, { headers, signal: pulling.signal }), freeAdmission())
  }

  /** Downloads a layer as containerd does: from the mirror, or the rest of it from upstream. */
  async function download(node: Node, content: Content, places: ReturnType<typeof makePlaces>): Promise<void> {
    const { signal } = node.pulling
    const { bytes, descriptor } = content
    const received = new Uint8Array(bytes.length)
    const writer = node.store.arrive(content)
    let at = 0
    const take = (chunk: Uint8Array) => {
      signal.throwIfAborted()
      received.set(chunk, at)
      at += chunk.length
      writer.write(at)
    }
    const fromUpstream = async () => {
      await until(clock, clock.now() + (node.isSlow ? SLOW : FAR), signal)
      while (at < bytes.length) {
        if (node.upstreamFails) throw new Error('upstream fails')
        const chunk = bytes.subarray(at, at + BLOCK)
        await until(clock, clock.now() + chunk.length / given.upstream, signal)
        left += chunk.length
        take(chunk)
      }
    }
    /** @returns whether the mirror has it */
    const fromMirror = async (): Promise<boolean> => {
      const response = await ask(node, `blobs/${descriptor.digest}`, `bytes=${at}-`)
      if (response.status === 404) return false
      assert.ok(response.status === 200 || response.status === 206, `status ${response.status}`)
      const source = byteSourceOf(response) ?? assert.fail('no body')
      using _ = onAbort(signal, () => void source.cancel())
      const before = at
      try {
        for (let chunk = await source.next(); chunk !== undefined; chunk = await source.next()) take(chunk)
      } catch {
        signal.throwIfAborted()
      }
      await source.cancel()
      vain = at > before ? 0 : vain + 1
      assert.ok(vain <= MOST_VAIN, 'containerd gives up')
      return true
    }
    let vain = 0
    try {
      while (at < bytes.length) {
        const isHere = await places.with(signal, async () => {
          if (await fromMirror()) return true
          if (!given.isContainerd2) await fromUpstream()
          return false
        })
        if (!isHere && given.isContainerd2) await places.with(signal, fromUpstream)
      }
      assert.ok(Buffer.from(received).equals(bytes), 'wrong bytes')
      writer.commit()
      node.hold(content)
    } catch (error) {
      writer.abort()
      throw error
    }
  }

  async function pull(node: Node): Promise<void> {
    const { signal } = node.pulling
    await until(clock, random() * random() * 1_500, signal)
    const response = await ask(node, `manifests/${manifest.descriptor.digest}`)
    await byteSourceOf(response)?.cancel()
    if (response.status === 404) await until(clock, clock.now() + FAR, signal)
    node.store.add(manifest)
    node.hold(manifest)
    const places = makePlaces()
    const order = given.isContainerd2 ? contents.toSorted(() => random() - 0.5) : contents
    // If a layer fails, containerd ends the others.
    const failed = (error: unknown) => {
      node.pulling.abort(error)
      throw error
    }
    await Promise.all(order.map((content) => download(node, content, places).catch(failed)))
  }

  const hit: Readonly<Record<Fault, (node: Node) => void>> = {
    'its pull is cancelled': (node) => node.pulling.abort(new Error('cancelled')),
    'it is killed'(node) {
      void node.member.close()
      node.pulling.abort(new Error('killed'))
      node.dead.abort()
    },
    'it hangs'(node) {
      node.member.answer(() => undefined)
      node.hangs = true
      node.pulling.abort(new Error('hangs'))
    },
    'its registry fails'(node) {
      node.upstreamFails = true
    },
    'it is slow'(node) {
      node.isSlow = true
    },
  }
  for (let number = 0; number < count; number++) {
    const node = makeNode(number)
    nodes.set(addressOf(node.self), node)
  }
  const all = [...nodes.values()]
  const mayFail = new Set<Node>()
  for (const { at, node, fault } of given.faults) {
    const one = all[node % count] ?? assert.fail()
    if (fault !== 'it is slow') mayFail.add(one)
    clock.after(at, () => hit[fault](one))
  }
  const pulls = all.map((node) => pull(node).catch((error) => mayFail.has(node) || Promise.reject(error)))
  const alone = (layers * layerSize) / given.upstream
  await clock.run(Promise.all(pulls), 60_000 + 4 * alone)
  const ms = clock.now()
  await clock.pass(20_000)
  let leaves = 0
  for (const { hangs, dead, bodies, followers, metrics, lines, flight } of all) {
    flight.close()
    leaves += lines.filter(({ event }) => event === 'parent lost').length
    if (hangs || dead.signal.aborted) continue
    assert.deepEqual([bodies, followers.all], [0, {}])
    assert.match(metrics.render().body, /transfers_running 0$/m)
    assert.deepEqual(
      lines.filter(({ level }) => level === 'error'),
      [],
    )
  }
  return { images: left / (layers * layerSize), ms, leaves }
}

/** The places of containerd's downloads. */
function makePlaces() {
  let free = PLACES
  const line: (() => void)[] = []
  return {
    async with<T>(signal: AbortSignal, use: () => Promise<T>): Promise<T> {
      if (free > 0) free--
      else await new Promise<void>((resolve) => line.push(resolve))
      try {
        signal.throwIfAborted()
        return await use()
      } finally {
        const next = line.shift()
        if (next === undefined) free++
        else next()
      }
    },
  }
}
