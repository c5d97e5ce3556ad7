import type { Metrics } from '../observe/metrics.ts'
import { Readiness } from '../observe/readiness.ts'
import type { Key } from '../oci/key.ts'
import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { type Clock, systemClock } from '../platform/clock.ts'
import { shuffled } from '../platform/shuffled.ts'
import { type AnnouncerOptions, createAnnouncer, REPLICAS } from './announce/announcer.ts'
import { createDhtClient } from './dht/client.ts'
import { type KnownNode, NetworkMap } from './dht/network-map.ts'
import { RECORD_LIFE } from './dht/record-store.ts'
import { type NodeDependencies, type NodeOptions, openNode } from './hyperswarm.ts'
import { createFinder } from './lookup/finder.ts'
import { createOwnRecords } from './lookup/known.ts'
import { type BootstrapEntry, type BootstrapOptions, createBootstrap, type ResolveName } from './members/bootstrap.ts'
import { createConnector } from './members/connector.ts'
import { createDhtMembers } from './members/dht-members.ts'
import { createDiscovery } from './members/discovery.ts'
import { createMembership, type Liveness, type MembershipOptions } from './members/membership.ts'
import { createSeenAddress } from './members/seen-address.ts'
import { registerSwarmMetrics, type SwarmFigures } from './metrics.ts'
import type { NodeAddress } from './node.ts'
import type { NodeFiles } from './node-files.ts'
import { topicOf } from './topic.ts'

export interface SwarmDependencies extends NodeDependencies {
  /** The file in which the node keeps the nodes that it knew last, if it does. */
  readonly files?: NodeFiles | undefined
  readonly resolve?: ResolveName
  /** The mirror is not ready until lookups work. */
  readonly readiness?: Readiness | undefined
  /** Told which members this node has a connection to. */
  readonly liveness?: Liveness | undefined
  readonly metrics?: Metrics | undefined
  readonly clock?: Clock
}

export interface SwarmOptions extends NodeOptions {
  readonly bootstrap: readonly BootstrapEntry[]
  readonly announcer?: AnnouncerOptions
  readonly bootstrapIntervals?: BootstrapOptions['intervals']
  readonly membership?: MembershipOptions
  /** Milliseconds between two searches for members: see connector.ts. */
  readonly searchInterval?: readonly [first: number, most: number]
}

/** Milliseconds for which withdrawals may delay the end of the node. */
const LEAVE_TIMEOUT = 1_000

/** A node of the swarm, which is also a Router. */
export type Swarm = Awaited<ReturnType<typeof joinSwarm>>

/**
 * Binds the swarm's UDP port and returns the node. The node has joined once it has looked for the others. If it finds none, it
 * is the first, or alone for now; it has joined anyway, and keeps looking.
 *
 * @throws the system's error if the port cannot be bound
 */
export async function joinSwarm(dependencies: SwarmDependencies, options: SwarmOptions) {
  const { log, files, resolve, readiness = new Readiness(), liveness, metrics, clock = systemClock } = dependencies
  const { self, swarmKeys } = options
  const node = await openNode(dependencies, options)
  const joined = Promise.withResolvers<void>()
  /** Whether it knows no other node; missing until it has joined. */
  let isAlone: boolean | undefined
  let closing: Promise<void> | undefined
  const waiting = readiness.wait('the swarm is not joined yet')
  const map = new NetworkMap(node.rpc.nodeAt(self))
  const dht = createDhtClient(node.rpc, map)
  const discovery = createDiscovery(dht, clock)
  const ownTopicOf = (key: Key) => topicOf(swarmKeys[0], key)
  const topicsOf = (key: Key) => swarmKeys.map((swarmKey) => topicOf(swarmKey, key))
  const own = createOwnRecords({ map, records: node.records, topicsOf }, REPLICAS)
  const finder = createFinder({ dht, topicsOf, own: own.ofWhole }, REPLICAS)
  const announcer = createAnnouncer({ log, dht, topicOf: ownTopicOf, clock }, options.announcer)
  const bootstrap = createBootstrap(
    { log, readiness, resolve, dht, discovery, remembered: () => files?.nodes ?? [], looked },
    { entries: options.bootstrap, self, intervals: options.bootstrapIntervals },
  )
  const membership = createMembership(
    {
      seen(peer) {
        log.debug('member seen', { peer })
        liveness?.seen(peer)
      },
      gone(peer) {
        log.debug('member gone', { peer })
        connector.soon()
        liveness?.gone(peer)
      },
    },
    options.membership,
    clock,
  )
  const connector = createConnector(
    {
      log,
      members: () => membership.members,
      unconnected,
      identify: dht.identify,
      join: node.connections.join,
      leave: node.connections.leave,
    },
    options.searchInterval,
  )
  map.on('joined', ({ host, port }) => {
    log.debug('node joined', { host, port, nodes: map.others })
    connector.soon()
    tellAlone()
  })
  map.on('left', ({ host, port }) => {
    log.debug('node lost', { host, port, nodes: map.others })
    tellAlone()
  })
  const members = createDhtMembers({ log, map, topicOf: ownTopicOf, rpc: node.rpc })
  node.listen({
    met: (address) => discovery.met(address),
    seen: createSeenAddress(self, readiness, clock),
    asked: members.answerTo,
    isWhole: own.isWhole,
  })
  node.connections.hear((connection) => membership.take(connection))
  if (metrics !== undefined) registerSwarmMetrics(metrics, figures)
  // It may reject while nobody waits for it.
  joined.promise.catch(() => undefined)
  bootstrap.start()

  async function leave(): Promise<void> {
    remember()
    joined.reject(new Error('closed'))
    const looking = bootstrap.close()
    finder.close()
    connector.close()
    membership.close()
    await bounded(LEAVE_TIMEOUT, undefined, (signal) => announcer.settled(signal)).catch(() => {
      // Other nodes find a closed door, and go on to the next peer.
      log.info('not all announcements were withdrawn; the rest expires', {
        keys: announcer.figures.waiting,
        milliseconds: RECORD_LIFE,
      })
    })
    announcer.close()
    discovery.close()
    await node.destroy()
    await looking
  }

  /** Members to which this node has no connection, in random order. */
  function* unconnected(): Iterable<NodeAddress> {
    for (const node of shuffled(others())) if (node.strikes === 0 && !membership.isConnectedTo(node)) yield node
  }

  function figures(): SwarmFigures {
    const { size: records, maxSize: recordLimit, refused: recordsRefused } = node.records
    const stored = { records, recordLimit, recordsRefused }
    return { ...announcer.figures, ...dht.figures, ...stored, refused: node.seal.refused, neighbours: map.others }
  }

  function others(): KnownNode[] {
    return [...map.nodes()].filter((node) => addressOf(node) !== addressOf(self))
  }

  function remember(): void {
    files?.remember(others())
  }

  /** Called when the node has looked for others. */
  function looked(): void {
    remember()
    if (isAlone !== undefined) return
    const neighbours = map.others
    isAlone = neighbours === 0
    const { host, port } = map.self
    log.info('swarm joined', { id: node.id, host, port, neighbours, alone: isAlone })
    waiting.over()
    joined.resolve()
    node.connections.listen().then(
      () => connector.start(),
      (error) => {
        if (closing === undefined) log.error('cannot accept connections from members', { error })
      },
    )
  }

  function tellAlone(): void {
    const neighbours = map.others
    if (isAlone === undefined || closing !== undefined || isAlone === (neighbours === 0)) return
    isAlone = neighbours === 0
    log.info(isAlone ? 'alone in the swarm' : 'no longer alone in the swarm', { neighbours })
  }

  return {
    /**
     * Resolves when lookups work: the node has looked for others, and has found some or is the first. Rejects if the node is
     * closed before that.
     */
    joined: joined.promise,
    members,

    get figures(): SwarmFigures {
      return figures()
    },

    lookup: finder.find,
    known: own.of,
    advertise: announcer.advertise,
    withdraw: announcer.withdraw,
    settled: announcer.settled,

    /** Leaves the swarm and closes everything. */
    close(): Promise<void> {
      closing ??= leave()
      return closing
    },
  }
}
