/** Content that only peers have, and the `PeerContent` that gets it from them. */

import assert from 'node:assert/strict'
import type { RequestListener } from 'node:http'
import { withoutFlight } from '../../lib/flight/flight.ts'
import type { Transferred } from '../../lib/observe/activity.ts'
import { createMetrics, type Metrics } from '../../lib/observe/metrics.ts'
import { digestKey, tagKey } from '../../lib/oci/key.ts'
import type { BlobTarget, ManifestTarget } from '../../lib/oci/path.ts'
import { PeerClient, type PeerClientOptions } from '../../lib/peers/client.ts'
import type { PeerCredentials } from '../../lib/peers/credentials.ts'
import { KnownPeers } from '../../lib/peers/known-peers.ts'
import type { ByteSource } from '../../lib/platform/byte-source.ts'
import type { Router } from '../../lib/swarm/router.ts'
import {
  createPeerContent,
  type PeerAnswer,
  type PeerContent,
  type PeerContentOptions,
  type PeerRequest,
} from '../../lib/transfer/peer-content.ts'
import { CREDENTIALS } from '../fixtures/credentials.ts'
import { makeImage } from '../fixtures/image.ts'
import { createLogRecorder, type LogLine } from '../fixtures/log.ts'
import { proving } from '../fixtures/proving.ts'
import { type CountingPeer, startHttpPeer, startPeer, type TestPeer } from './http-peer.ts'
import { createMemoryStore } from './memory-store.ts'
import { MemorySwarm } from './memory-swarm.ts'

export const image = makeImage({ layers: 1, layerSize: 250_000 })
export const layer = image.contents.at(-1) ?? assert.fail('no layer')
export const manifest = image.contents[0] ?? assert.fail('no manifest')
export const TAG = { registry: 'registry.example', repository: 'team/app', tag: '1' }
const NAME = { registry: TAG.registry, repository: TAG.repository }
export const BLOB: BlobTarget = { kind: 'blob', ...NAME, digest: layer.descriptor.digest }
export const MANIFEST: ManifestTarget = { kind: 'manifest', ...NAME, tag: TAG.tag }
/** As in a mirror, the race notices a silent peer before the client does, by a clock that a busy machine does not mislead. */
export const TIMES = { headTimeout: 10_000 }
/** Short, so that tests are fast, but long enough that a loaded machine takes no peer for a failed one. */
export const OPTIONS: PeerContentOptions = {
  lookupTimeout: 5_000,
  parallelPeers: 3,
  patience: 300,
  stallTimeout: 300,
  verify: true,
}

export interface Setting {
  readonly peers: PeerContent
  readonly client: PeerClient
  readonly known: KnownPeers
  readonly metrics: Metrics
  readonly lines: readonly LogLine[]
  /** The transfers that were reported. */
  readonly told: ReadonlySet<Transferred>
}

/** The parts of a `PeerContent`, besides the router. */
export function makeParts(credentials: PeerCredentials = CREDENTIALS, times: PeerClientOptions = TIMES) {
  const { log, lines } = createLogRecorder()
  const client = new PeerClient(times)
  return { client, credentials, known: new KnownPeers(), metrics: createMetrics(), log, lines }
}

/** Runs `use` with a `PeerContent` that finds the given peers, in that order. */
export async function withPeers(
  starts: readonly (() => Promise<TestPeer>)[],
  use: (setting: Setting, started: readonly TestPeer[]) => Promise<void>,
  options: Partial<PeerContentOptions> = {},
): Promise<void> {
  const started: TestPeer[] = []
  const parts = makeParts()
  try {
    const swarm = new MemorySwarm()
    for (const start of starts) {
      const peer = await start()
      started.push(peer)
      const keys = image.contents.map(({ descriptor }) => digestKey(descriptor.digest))
      swarm.join(peer.peer).advertise([...keys, tagKey(TAG)])
    }
    const router: Router = swarm.join({ host: '127.0.0.1', port: 1 })
    const told = new Set<Transferred>()
    const onTransfer = (_: PeerRequest['target'], transfer: Transferred) => void told.add(transfer)
    const peers = createPeerContent({ ...parts, flight: withoutFlight(router), onTransfer }, { ...OPTIONS, ...options })
    await use({ ...parts, peers, told }, started)
  } finally {
    parts.client.close()
    for (const peer of started) await peer.close()
  }
}

export async function startGoodPeer(): Promise<TestPeer> {
  const store = createMemoryStore()
  store.addImage(image, TAG)
  return await startPeer(store)
}

/** A member of the swarm that answers every request with `answer`. */
export async function startMember(answer: RequestListener): Promise<CountingPeer> {
  return await startHttpPeer(proving(answer))
}

/** The headers that a good peer sends for the layer. */
export const HEAD = {
  'content-type': layer.descriptor.mediaType,
  'content-length': String(layer.bytes.length),
  'docker-content-digest': layer.descriptor.digest,
}

/** All bytes of a source. After an error, `received` has the bytes before it. */
export async function read(source: ByteSource | null, received: Uint8Array[] = []): Promise<Buffer> {
  for (let chunk = await source?.next(); chunk !== undefined; chunk = await source?.next()) {
    assert.ok(chunk.length > 0)
    received.push(new Uint8Array(chunk))
  }
  return Buffer.concat(received)
}

export async function contentOf(answer: PeerAnswer | undefined): Promise<Buffer> {
  return await read(bodyOf(answer))
}

export function bodyOf(answer: PeerAnswer | undefined): ByteSource {
  assert.ok(answer?.kind === 'content', `an answer with content, not ${answer?.kind}`)
  return answer.body ?? assert.fail('no body')
}

/** The sum of a counter over all series whose text contains `labels`. */
export async function counted(metrics: Metrics, name: string, labels = ''): Promise<number> {
  const { body } = metrics.render()
  const lines = body.split('\n').filter((line) => line.startsWith(`swarmirror_${name}`) && line.includes(labels))
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}
