import b4a from 'b4a'
import HyperDHT from 'hyperdht'
import Hyperswarm, { type Server } from 'hyperswarm'
import type { Logger } from '../observe/log.ts'
import { createSealedBackend, type DatagramBackend, runtimeBackend, UDX } from '../udx/index.ts'
import { Refusals, SwarmSeal } from './datagram-seal.ts'
import { answerFrom, createDhtRpc, QUESTION } from './dht/hyperdht-rpc.ts'
import { createRecordStore } from './dht/record-store.ts'
import { MAX_MEMBERS, type SwarmConnection } from './members/membership.ts'
import type { NodeAddress } from './node.ts'
import type { NodeFiles } from './node-files.ts'

/**
 * Requests under way at a time before hyperdht queues them, for 750 ms and more: never, since what sends many here keeps to a
 * window of its own (see pace.ts).
 */
const MAX_WINDOW = 100_000
/** The command of hyperdht by which members connect. */
const PEER_HANDSHAKE = 0
/** Of the value of a handshake, after flags that say which addresses it names: it comes from the node that wants to connect. */
const FROM_CLIENT = 0
/** Milliseconds for which a token of this node is good, at least; twice as long at most. As in hyperdht. */
const TOKEN_LIFE = 7_500
/** Milliseconds after which hyperdht looks whether the nodes of its table still answer, and the runs of its timer in that time. */
const [TABLE_INTERVAL, TABLE_TICKS] = [40_000, 8]
/** Milliseconds by which a request may ask for its answer to be delayed: no member's does, and each would take memory. */
const MAX_PING_DELAY = 1

export interface NodeDependencies {
  readonly log: Logger
  /** Where the node keeps what it remembers between starts, if it does. */
  readonly files?: NodeFiles | undefined
  /** Datagram sockets; those of the running runtime by default. */
  readonly backend?: DatagramBackend
}

export interface NodeOptions {
  /** Address that the swarm's UDP socket is bound to; may be 0.0.0.0. */
  readonly bindHost: string
  /** Where other nodes reach this one: its DHT node, and its peer door. */
  readonly self: NodeAddress
  /** This node announces under the first, and looks for and accepts what is announced under any. */
  readonly swarmKeys: readonly [Uint8Array, ...Uint8Array[]]
}

/** What a node of the DHT calls back. An address may be a lie until something that was sent there is answered. */
interface Listeners {
  /** A node has sent something. */
  readonly met: (node: NodeAddress) => void
  /** Gives the answer to a question. */
  readonly asked: (question: Uint8Array, from: NodeAddress) => Uint8Array | undefined
  /** Whether this node has all records of a topic. */
  readonly isWhole: (topic: Uint8Array) => boolean
}

/**
 * Binds the swarm's UDP port and gives the node of the DHT there. It asks nobody by itself: not the public bootstrap nodes of
 * Hyperswarm either.
 *
 * @throws the system's error if the port cannot be bound
 */
export async function openNode(
  { log, files, backend = runtimeBackend }: NodeDependencies,
  { bindHost, self, swarmKeys }: NodeOptions,
) {
  const refusals = new Refusals(log)
  const seal = new SwarmSeal({ swarmKeys, onRefused: (refusal, from) => refusals.note(refusal, from) })
  const keyPair = HyperDHT.keyPair(files?.seedAt(self))
  // Every node knows its own address, so each is made as a bootstrapper: a full member of the DHT at once, alone or not.
  // hyperdht itself gets no bootstrap nodes: as long as its table is small, each of its queries would ask them again, and
  // a dead one would hold up every query for seconds.
  const dht = HyperDHT.bootstrapper(self.port, self.host, {
    host: bindHost,
    bootstrap: [],
    keyPair,
    maxWindow: MAX_WINDOW,
    maxPingDelay: MAX_PING_DELAY,
    // In place of the addon that hyperdht brings, which needs the libuv of Node.
    udx: new UDX({ backend: createSealedBackend(backend, seal) }),
  })
  const records = createRecordStore({ log })
  try {
    await dht.fullyBootstrapped()
  } catch (error) {
    // A node whose port could not be bound cannot be destroyed: that waits for the binding, and fails as it did.
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
    // Members connect directly, so this is all that hyperdht has to answer. It would relay handshakes to any address that
    // they name, and keep what no member asks for.
    const isDirect = target !== null && b4a.equals(target, ownTarget) && value?.[0] === 0 && value[1] === FROM_CLIENT
    if (command === PEER_HANDSHAKE) return isDirect && next(request)
    const isWhole = (topic: Uint8Array) => listeners?.isWhole(topic) === true
    if (command !== QUESTION) return answerFrom(records, keyPair.publicKey, request, isWhole)
    const answer = value && listeners?.asked(value, from)
    if (answer) request.reply(answer, { token: false, closerNodes: false })
    return true
  }
  const addresses = new Map<string, NodeAddress>()
  const connect = dht.connect.bind(dht)
  // Each node relays for itself, so nobody else is asked for the way to it.
  dht.connect = (publicKey, given) => {
    const address = addresses.get(b4a.toString(publicKey, 'hex'))
    return connect(publicKey, address === undefined ? given : { ...given, relayAddresses: [address] })
  }
  const swarm = new Hyperswarm({ dht, keyPair, maxPeers: MAX_MEMBERS })
  survive(swarm.server)
  stillRetries(swarm)
  const rpc = createDhtRpc({
    request: (message, to, timeout) => {
      // There is no option for it; a session is shown the request before it is sent.
      const session = {
        _attach(request: { timeout: number }) {
          request.timeout = timeout
        },
        _detach: () => undefined,
      }
      return dht.request(message, to, { retry: false, session })
    },
    hash: (bytes) => HyperDHT.hash(bytes),
  })
  return {
    rpc,
    publicKey: keyPair.publicKey,
    /** Connections to other members, by their public keys. */
    connections: {
      hear: (listener: (connection: SwarmConnection) => void) => swarm.on('connection', listener),
      async listen(): Promise<void> {
        await swarm.listen()
        // It would search every five minutes for nodes that keep its address for others, and wake up every 3 s to look after
        // them. Nobody asks them.
        await swarm.server._announcer?.stop()
      },
      /** Connects to the member with that key at that address, and again until `leavePeer`. */
      joinPeer(publicKey: Uint8Array, address: NodeAddress): void {
        addresses.set(b4a.toString(publicKey, 'hex'), address)
        swarm.joinPeer(publicKey)
      },
      leavePeer(publicKey: Uint8Array): void {
        addresses.delete(b4a.toString(publicKey, 'hex'))
        swarm.leavePeer(publicKey)
      },
    },
    /** What it stores for others. */
    records,
    /** Datagrams that it has refused. */
    refusals,
    listen(to: Listeners): void {
      listeners = to
      // Of nodes that answer. A node that was restarted is noticed by its requests, since this event names each node once.
      dht.on('add-node', to.met)
    },
    async destroy(): Promise<void> {
      // Together: the swarm's server would first ask neighbours that may be gone to forget its address, for up to 5 s.
      await Promise.all([dht.destroy({ force: true }), swarm.destroy({ force: true })])
    },
  }
}

/**
 * Makes one slow timer of two of hyperdht. That of 750 ms forgets requests that were not answered, lets queued ones go, of which there are
 * none (see MAX_WINDOW), and with every tenth run changes the secret that tokens are made of: it changes now when a token is asked
 * for and the time has come. That of 5 s looks after the table, with every eighth run; what else it does is for nodes that sleep,
 * or whose address may change.
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

/** Lets the timers by which Hyperswarm connects again run as long as there is somebody to connect to, and not for ever after. */
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
 * Lets a handshake that cannot be read fail with a plain error. One that is too short causes a RangeError, which hyperdht takes
 * for a mistake of its own, and ends the process.
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
