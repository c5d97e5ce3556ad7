import b4a from 'b4a'
import type { Logger } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Readiness, type Wait } from '../observe/readiness.ts'
import type { Key } from '../oci/key.ts'
import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { shuffled } from '../platform/shuffled.ts'
import type { DatagramBackend } from '../udx/index.ts'
import { Announcer, type AnnouncerOptions, REPLICAS } from './announce/announcer.ts'
import { DhtClient } from './dht/client.ts'
import { NetworkMap } from './dht/network-map.ts'
import { RECORD_LIFE, type RecordStore } from './dht/record-store.ts'
import type { DhtRpc } from './dht/rpc.ts'
import { Finder } from './lookup/finder.ts'
import { Bootstrap, type BootstrapEntry, type BootstrapOptions, type ResolveName } from './members/bootstrap.ts'
import { Connector, type ConnectorOptions, type FoundMember } from './members/connector.ts'
import { DhtMembers } from './members/dht-members.ts'
import { Discovery } from './members/discovery.ts'
import { type Liveness, Membership, type MembershipOptions, type SwarmConnection } from './members/membership.ts'
import type { Members } from './members.ts'
import { registerSwarmMetrics, type SwarmFigures } from './metrics.ts'
import type { NodeAddress } from './node.ts'
import type { NodeFiles } from './node-files.ts'
import type { Peer, Router } from './router.ts'
import { topicOf } from './topic.ts'

export interface SwarmDependencies {
  readonly log: Logger
  /** Where the node keeps what it remembers between starts, if it does. */
  readonly files?: NodeFiles | undefined
  readonly resolve?: ResolveName
  /** Waits until lookups work. */
  readonly readiness?: Readiness | undefined
  /** Learns which other members this node has a connection to. */
  readonly liveness?: Liveness | undefined
  readonly metrics?: Metrics | undefined
  /** Datagram sockets; those of the running runtime by default. */
  readonly backend?: DatagramBackend
}

export interface SwarmOptions {
  /** Address that the swarm's UDP socket is bound to; may be 0.0.0.0. */
  readonly bindHost: string
  /** Where other nodes reach this one: its DHT node, and its peer door. */
  readonly self: NodeAddress
  readonly bootstrap: readonly BootstrapEntry[]
  /** This node announces under the first, and looks for and accepts what is announced under any. */
  readonly swarmKeys: readonly [Uint8Array, ...Uint8Array[]]
  readonly announcer?: AnnouncerOptions
  readonly bootstrapIntervals?: BootstrapOptions['intervals']
  readonly membership?: MembershipOptions
  readonly connector?: ConnectorOptions
}

/** A node of the DHT that has its port. */
export interface SwarmNode {
  readonly rpc: DhtRpc
  readonly publicKey: Uint8Array
  /** Connections to other members, by their public keys. */
  readonly connections: {
    on(event: 'connection', listener: (connection: SwarmConnection) => void): unknown
    listen(): Promise<void>
    /** Connects to the member with that key at that address, and again until `leavePeer`. */
    joinPeer(publicKey: Uint8Array, address: NodeAddress): void
    leavePeer(publicKey: Uint8Array): void
  }
  /** What it stores for others. */
  readonly records: Pick<RecordStore, 'size' | 'maxSize' | 'refused'>
  /** Datagrams that it has refused. */
  readonly refusals: { readonly total: number }
  listen(listeners: SwarmListeners): void
  destroy(): Promise<void>
}

/** What a node of the DHT calls back. An address may be a lie until something that was sent there is answered. */
export interface SwarmListeners {
  /** A node has sent something. */
  readonly met: (node: NodeAddress) => void
  /** Gives the answer to a question. */
  readonly asked: (question: Uint8Array, from: NodeAddress) => Uint8Array | undefined
}

/** Milliseconds that withdrawals under way may hold up the end of the node. */
const LEAVE_TIMEOUT = 1_000

/** A node of the swarm: what the parts of this room make together. */
export class Swarm implements Router {
  readonly members: Members
  readonly #log: Logger
  readonly #node: SwarmNode
  readonly #map: NetworkMap
  readonly #dht: DhtClient
  readonly #discovery: Discovery
  readonly #finder: Finder
  readonly #announcer: Announcer
  readonly #bootstrap: Bootstrap
  readonly #membership: Membership
  readonly #connector: Connector
  readonly #files: NodeFiles | undefined
  readonly #waiting: Wait
  readonly #joined = Promise.withResolvers<void>()
  #isJoined = false
  #isAlone = true
  #closing: Promise<void> | undefined

  constructor(
    { log, files, resolve, readiness = new Readiness(), liveness, metrics }: SwarmDependencies,
    node: SwarmNode,
    { self, swarmKeys, bootstrap, bootstrapIntervals, ...options }: SwarmOptions,
  ) {
    this.#log = log
    this.#node = node
    this.#files = files
    this.#waiting = readiness.wait('the swarm is not joined yet')
    this.#map = new NetworkMap({ ...self, id: node.rpc.idOf(self) })
    this.#dht = new DhtClient({ rpc: node.rpc, map: this.#map })
    this.#discovery = new Discovery(this.#dht)
    const ownTopicOf = (key: Key) => topicOf(swarmKeys[0], key)
    const topicsOf = (key: Key) => swarmKeys.map((swarmKey) => topicOf(swarmKey, key))
    const replicas = options.announcer?.replicas ?? REPLICAS
    this.#finder = new Finder({ dht: this.#dht, topicsOf }, replicas)
    this.#announcer = new Announcer({ log, dht: this.#dht, topicOf: ownTopicOf }, options.announcer)
    this.#discovery.sampleWith((of) => this.#announcer.sampleOf(of))
    this.#bootstrap = new Bootstrap(
      { log, readiness, resolve, dht: this.#dht, discovery: this.#discovery, remembered: () => files?.nodes ?? [] },
      { entries: bootstrap, self, intervals: bootstrapIntervals },
    )
    this.#membership = new Membership(this.#livenessOf(liveness), options.membership)
    this.#connector = new Connector(
      {
        log,
        members: () => this.#membership.members,
        find: () => this.#unconnected(),
        join: ({ id, host, port }) => node.connections.joinPeer(b4a.from(id, 'hex'), { host, port }),
        leave: (id) => node.connections.leavePeer(b4a.from(id, 'hex')),
      },
      options.connector,
    )
    this.#map.listen({
      joined: ({ host, port }) => {
        log.debug('node joined', { host, port, nodes: this.#map.others })
        this.#connector.soon()
        this.#tellAlone()
      },
      left: ({ host, port }) => {
        log.debug('node lost', { host, port, nodes: this.#map.others })
        this.#tellAlone()
      },
    })
    const members = new DhtMembers({ log, map: this.#map, topicOf: ownTopicOf, rpc: node.rpc })
    this.members = members
    node.listen({
      met: (address) => this.#discovery.met(address),
      asked: (question, from) => members.answerTo(question, from),
    })
    node.connections.on('connection', (connection) => this.#membership.take(connection))
    if (metrics !== undefined) registerSwarmMetrics(metrics, () => this.figures)
    // Nobody has to wait for it.
    this.#joined.promise.catch(() => undefined)
    this.#bootstrap.start(() => this.#looked())
  }

  /** Resolves when lookups work: the node has looked for others, and has found some or is the first. Rejects if it is closed before. */
  get joined(): Promise<void> {
    return this.#joined.promise
  }

  get figures(): SwarmFigures {
    const { size: records, maxSize: recordLimit, refused: recordsRefused } = this.#node.records
    const { total: refused } = this.#node.refusals
    const stored = { records, recordLimit, recordsRefused }
    return { ...this.#announcer.figures, ...this.#dht.figures, ...stored, refused, neighbours: this.#map.others }
  }

  async *lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    for await (const { host, port } of this.#finder.find(key, signal)) yield { host, port }
  }

  advertise(keys: Iterable<Key>): void {
    this.#announcer.advertise(keys)
  }

  withdraw(keys: Iterable<Key>): void {
    this.#announcer.withdraw(keys)
  }

  settled(signal: AbortSignal): Promise<void> {
    return this.#announcer.settled(signal)
  }

  /** Leaves the swarm and ends everything. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#remember()
    this.#joined.reject(new Error('closed'))
    const bootstrap = this.#bootstrap.close()
    this.#finder.close()
    this.#connector.close()
    this.#membership.close()
    await bounded(LEAVE_TIMEOUT, undefined, (signal) => this.#announcer.settled(signal)).catch(() => {
      // Others come to a door that is closed, and go on to the next peer.
      this.#log.info('not all announcements were taken back, the rest expires', {
        keys: this.#announcer.figures.waiting,
        milliseconds: RECORD_LIFE,
      })
    })
    this.#announcer.close()
    this.#discovery.close()
    await this.#node.destroy()
    await bootstrap
  }

  /** Members without a connection to this node, in random order. */
  async *#unconnected(): AsyncIterable<FoundMember> {
    const self = addressOf(this.#map.self)
    const nodes = [...this.#map.nodes()].filter((node) => node.strikes === 0 && addressOf(node) !== self)
    for (const node of shuffled(nodes)) {
      if (this.#membership.isConnectedTo(node)) continue
      const publicKey = await this.#dht.identify(node)
      const { host, port } = node
      if (publicKey !== undefined) yield { id: b4a.toString(publicKey, 'hex'), host, port }
    }
  }

  #livenessOf(liveness: Liveness | undefined): Liveness {
    return {
      seen: (peer) => {
        this.#log.debug('member seen', { peer })
        liveness?.seen(peer)
      },
      gone: (peer) => {
        this.#log.debug('member gone', { peer })
        this.#connector.soon()
        liveness?.gone(peer)
      },
    }
  }

  #remember(): void {
    const self = addressOf(this.#map.self)
    this.#files?.remember([...this.#map.nodes()].filter((node) => addressOf(node) !== self))
  }

  /** The node has looked for others. */
  #looked(): void {
    this.#remember()
    if (this.#isJoined) return
    this.#isJoined = true
    const neighbours = this.#map.others
    this.#isAlone = neighbours === 0
    const { host, port } = this.#map.self
    const id = b4a.toString(this.#node.publicKey, 'hex')
    this.#log.info('swarm joined', { id, host, port, neighbours, alone: this.#isAlone })
    this.#waiting.over()
    this.#joined.resolve()
    this.#node.connections.listen().then(
      () => this.#connector.start(),
      (error) => {
        if (this.#closing === undefined) this.#log.error('cannot accept connections of members', { error })
      },
    )
  }

  #tellAlone(): void {
    const neighbours = this.#map.others
    const isAlone = neighbours === 0
    if (!this.#isJoined || this.#closing !== undefined || isAlone === this.#isAlone) return
    this.#isAlone = isAlone
    this.#log.info(isAlone ? 'alone in the swarm' : 'no longer alone in the swarm', { neighbours })
  }
}
