/** Good and bad peer doors for tests, over real sockets on loopback. */
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createNetServer, type Server, type Socket } from 'node:net'
import { Followers } from '../../lib/http/from-arrival.ts'
import { createHttpMetrics } from '../../lib/http/metrics.ts'
import { createPeerDoor } from '../../lib/http/peer.ts'
import { silentLogger } from '../../lib/observe/log.ts'
import { createMetrics } from '../../lib/observe/metrics.ts'
import { createPolicy } from '../../lib/oci/policy.ts'
import type { CapabilityCheck } from '../../lib/peers/credentials.ts'
import { addressOf } from '../../lib/platform/address.ts'
import { listen } from '../../lib/platform/listen.ts'
import type { ContentStore } from '../../lib/store/store.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import { CREDENTIALS } from '../fixtures/credentials.ts'

/** A server that answers, or fails to answer, at the address of a peer door. */
export interface TestPeer {
  readonly peer: Peer
  close(): Promise<void>
}

/** A peer whose connections are counted. */
export interface CountingPeer extends TestPeer {
  /** How many connections are open now. */
  readonly open: number
  /** How many connections were ever accepted. */
  readonly accepted: number
}

/** A good peer: the real door on a store. */
export async function startPeer(store: ContentStore, capabilities: CapabilityCheck = CREDENTIALS): Promise<TestPeer> {
  const listener = await listen((request, admission) => door.fetch(request, admission), {
    host: '127.0.0.1',
    port: 0,
    onError: () => undefined,
  })
  const peer = peerAt(listener.port)
  const door = createPeerDoor({
    store,
    followers: new Followers(store, () => 1),
    maxTransfers: 64,
    policy: createPolicy(),
    metrics: createHttpMetrics(createMetrics()),
    log: silentLogger,
    capabilities,
    address: addressOf(peer),
  })
  return {
    peer,
    async close() {
      await listener.close(AbortSignal.abort())
    },
  }
}

/** A peer that answers every request with `answer`, and counts its connections. */
export async function startHttpPeer(answer: RequestListener): Promise<CountingPeer> {
  return await start(createServer({ keepAliveTimeout: 30_000 }, answer))
}

/** A peer that handles every connection with `onConnection`. */
export async function startRawPeer(onConnection: (socket: Socket) => void): Promise<CountingPeer> {
  return await start(createNetServer(onConnection))
}

/** A peer that is not there any more. */
export async function startAbsentPeer(): Promise<TestPeer> {
  const { peer, close } = await startRawPeer((socket) => socket.destroy())
  await close()
  // Another test may get the port at once, but nobody listens at this address.
  return { peer: { ...peer, host: '127.0.0.2' }, close }
}

async function start(server: Server): Promise<CountingPeer> {
  const sockets = new Set<Socket>()
  let accepted = 0
  server.on('connection', (socket: Socket) => {
    accepted++
    sockets.add(socket)
    // In some tests the client leaves in the middle.
    socket.on('error', () => sockets.delete(socket))
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    peer: peerAt(port),
    get open() {
      return sockets.size
    },
    get accepted() {
      return accepted
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

function peerAt(port: number): Peer {
  return { host: '127.0.0.1', port }
}
