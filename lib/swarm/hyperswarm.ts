import b4a from 'b4a'
import HyperDHT from 'hyperdht'
import Hyperswarm, { type Server } from 'hyperswarm'
import type { Logger } from '../observe/log.ts'
import { type DatagramBackend, runtimeBackend, UDX } from '../udx/index.ts'
import { createSealedBackend, createSwarmSeal } from './datagram-seal.ts'
import { createRecordStore } from './dht/record-store.ts'
import { answerFrom, createDhtRpc, QUESTION } from './dht/rpc.ts'
import { MAX_MEMBERS, type SwarmConnection } from './members/membership.ts'
import type { NodeAddress } from './node.ts'

/**
 * How many requests may be under way before hyperdht queues more, for 750 ms or longer. It is never reached, because the
 * announcer keeps to its own window (see pace.ts).
 */
const MAX_WINDOW = 100_000
/** The hyperdht command with which members connect. */
const PEER_HANDSHAKE = 0
/**
 * The second byte of a handshake if it comes from the node that wants to connect. The first byte has flags that say which
 * addresses it names.
 */
const FROM_CLIENT = 0
/** Milliseconds for which a token of this node is good at least; twice as long at most. The same as in hyperdht. */
const TOKEN_LIFE = 7_500
/**
 * Milliseconds after which hyperdht checks whether the nodes of its table still answer, and the runs of its timer in that time.
 */
const [TABLE_INTERVAL, TABLE_TICKS] = [40_000, 8]
/**
 * Milliseconds by which a request may ask this node to delay its answer. Members never ask for it, and each delay would take
 * memory.
 */
const MAX_PING_DELAY = 1

export interface NodeDependencies {
  readonly log: Logger
  /** Datagram sockets; those of this runtime by default. */
  readonly backend?: DatagramBackend
}

export interface NodeOptions {
  /** The address to which the swarm's UDP socket is bound; may be 0.0.0.0. */
  readonly bindHost: string
  /** The address at which other nodes reach this node's DHT node and peer door. */
  readonly self: NodeAddress
  /** This node announces under the first key, and looks for and accepts announcements under any. */
  readonly swarmKeys: readonly [Uint8Array, ...Uint8Array[]]
}

/** Callbacks of a node of the DHT. An address may be false until that address has answered. */
interface Listeners {
  /** Called when a node has sent something. */
  readonly met: (node: NodeAddress) => void
  /** Called with the address at which another node has seen this one. */
  readonly seen: (address: NodeAddress, by: NodeAddress) => void
  /** Returns the answer to a question. */
  readonly asked: (question: Uint8Array, from: NodeAddress) => Uint8Array | undefined
  /** Whether this node has all records of a topic. */
  readonly isWhole: (topic: Uint8Array) => boolean
}

/**
 * Binds the swarm's UDP port and makes the DHT node there. The node asks nobody by itself, not even Hyperswarm's public
 * bootstrap nodes.
 *
 * @throws the system's error if the port cannot be bound
 */
export async function openNode(
  { log, backend = runtimeBackend }: NodeDependencies,
  { bindHost, self, swarmKeys }: NodeOptions,
) {
  const seal = createSwarmSeal(log, swarmKeys)
  const keyPair = HyperDHT.keyPair()
  // Every node knows its own address, so it is made as a bootstrapper, which is a full member of the DHT at once, even alone.
  // hyperdht itself gets no bootstrap nodes: while its table is small, each of its queries would ask them again, and a dead one
  // would hold up every query for seconds.
  const dht = HyperDHT.bootstrapper(self.port, self.host, {
    host: bindHost,
    bootstrap: [],
    keyPair,
    maxWindow: MAX_WINDOW,
    maxPingDelay: MAX_PING_DELAY,
    // In place of hyperdht's addon, which needs Node's libuv.
    udx: new UDX({ backend: createSealedBackend(backend, seal) }),
  })
  const records = createRecordStore({ log })
  try {
    await dht.fullyBootstrapped()
  } catch (error) {
    // If the port could not be bound, destroying the node waits for the binding and fails like it.
    await dht.destroy({ force: true }).catch(() => undefined)
    throw error
  }
  stillDht(dht)
  const next = dht.onrequest.bind(dht)
  const ownTarget = HyperDHT.hash(keyPair.publicKey)
  let listeners: Listeners | undefined
  dht.onrequest = (request) => {
    const { command, from, target, value } = request
    if (from.id !== null) listeners?.met(from)
    // Members connect directly, so hyperdht needs to answer only this. Otherwise it would relay handshakes to any address that
    // they name, and store data that no member asks for.
    const isDirect = target !== null && b4a.equals(target, ownTarget) && value?.[0] === 0 && value[1] === FROM_CLIENT
    if (command === PEER_HANDSHAKE) return isDirect && next(request)
    const isWhole = (topic: Uint8Array) => listeners?.isWhole(topic) === true
    if (command !== QUESTION) return answerFrom(records, keyPair.publicKey, request, isWhole)
    // A question has the id of its sender's address, unless somebody has recorded it and sends it from another address.
    if (from.id === null) return false
    const answer = value && listeners?.asked(value, from)
    if (answer) request.reply(answer, { token: false, closerNodes: false })
    return true
  }
  const addresses = new Map<string, NodeAddress>()
  const connect = dht.connect.bind(dht)
  // Each node is its own relay, so no other node is asked for the way to it.
  dht.connect = (publicKey, given) => {
    const address = addresses.get(b4a.toString(publicKey, 'hex'))
    return connect(publicKey, address === undefined ? given : { ...given, relayAddresses: [address] })
  }
  const swarm = new Hyperswarm({ dht, keyPair, maxPeers: MAX_MEMBERS })
  survive(swarm.server)
  stillRetries(swarm)
  const rpc = createDhtRpc({
    request: (message, to, timeout) => {
      // hyperdht has no option for the timeout, but a session sees the request before it is sent.
      const session = {
        _attach(request: { timeout: number }) {
          request.timeout = timeout
        },
        _detach: () => undefined,
      }
      return dht.request(message, to, { retry: false, session })
    },
    hash: (bytes) => HyperDHT.hash(bytes),
    seen: (address, by) => listeners?.seen(address, by),
  })
  return {
    rpc,
    /** Its public key in hex. */
    id: b4a.toString(keyPair.publicKey, 'hex'),
    /** Connections to other members, by their public keys in hex. */
    connections: {
      hear: (listener: (connection: SwarmConnection) => void) => swarm.on('connection', listener),
      async listen(): Promise<void> {
        await swarm.listen()
        // The announcer would search every five minutes for nodes that keep this node's address for others, and wake up every 3
        // s. Nobody asks those nodes.
        await swarm.server._announcer?.stop()
      },
      /** Connects to the member with that key at that address, and reconnects until `leave`. */
      join(id: string, { host, port }: NodeAddress): void {
        addresses.set(id, { host, port })
        swarm.joinPeer(b4a.from(id, 'hex'))
      },
      leave(id: string): void {
        addresses.delete(id)
        swarm.leavePeer(b4a.from(id, 'hex'))
      },
    },
    /** The records that this node stores for others. */
    records,
    /** Seals its datagrams, and counts those that it has refused. */
    seal,
    listen(to: Listeners): void {
      listeners = to
      // This event names each node that answers, but only once. A restarted node is noticed by its requests.
      dht.on('add-node', to.met)
    },
    async destroy(): Promise<void> {
      // Both at once: otherwise the swarm's server would first ask neighbours, which may be gone, to forget its address, for up
      // to 5 s.
      await Promise.all([dht.destroy({ force: true }), swarm.destroy({ force: true })])
    },
  }
}

/**
 * Replaces two timers of hyperdht with one slow timer. The timer of 750 ms drops unanswered requests and sends queued ones, of
 * which there are none (see MAX_WINDOW). At every tenth run it changes the secret of tokens, which now changes when a token is
 * asked for and it is time. The timer of 5 s refreshes the table at every eighth run. The rest of its work is for nodes that
 * sleep or change their address.
 */
function stillDht(dht: HyperDHT): void {
  const { io } = dht
  clearInterval(io._drainInterval)
  const token = io.token.bind(io)
  let changedAt = performance.now()
  io.token = (...which) => {
    const lives = Math.floor((performance.now() - changedAt) / TOKEN_LIFE)
    changedAt += lives * TOKEN_LIFE
    for (let life = 0; life < Math.min(lives, 2); life++) {
      io._rotateSecrets = 1
      io._drain()
    }
    return token(...which)
  }
  clearInterval(dht._tickInterval)
  dht._tickInterval = setInterval(() => {
    io._drain()
    dht._lastTick = Date.now()
    dht._tick |= TABLE_TICKS - 1
    dht._ontick()
  }, TABLE_INTERVAL)
  dht._tickInterval.unref()
}

/** Runs the timers with which Hyperswarm reconnects only while there are members to connect to. */
function stillRetries({ _timer: retries }: Hyperswarm): void {
  for (const timer of [retries._sTimer, retries._mTimer, retries._lTimer, retries._xTimer]) {
    const tick = timer._ontick.bind(timer)
    timer._ontick = () => {
      tick()
      if (timer._next.length > 0 || timer._pending.length > 0) return
      clearInterval(timer._interval ?? undefined)
      timer._interval = null
    }
  }
}

/**
 * Makes a malformed handshake fail with a plain error. A handshake that is too short causes a RangeError, which hyperdht takes
 * for its own mistake and ends the process.
 */
function survive(server: Server): void {
  const create = server.createHandshake
  server.createHandshake = (...keys) => {
    const handshake = create(...keys)
    const read = handshake.recv.bind(handshake)
    handshake.recv = (bytes) => {
      try {
        return read(bytes)
      } catch (error) {
        throw new Error('expected a handshake', { cause: error })
      }
    }
    return handshake
  }
}
