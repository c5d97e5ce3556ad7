import type { Logger } from '../observe/log.ts'
import { Readiness, type Wait } from '../observe/readiness.ts'
import type { Key } from '../oci/key.ts'
import { addressOf } from '../platform/address.ts'
import { Announcer, type AnnouncerOptions, REPLICAS } from './announce/announcer.ts'
import { Directory } from './announce/directory.ts'
import { RECORD_LIFE, RecordLimit, type StoredRecords } from './dht/records.ts'
import type { SwarmTable } from './dht/table.ts'
import { Finder, type FinderOptions } from './lookup/finder.ts'
import type { BootstrapEntry, NodeAddress, ResolveName } from './members/bootstrap.ts'
import { Bootstrapping } from './members/bootstrapping.ts'
import { Contacts } from './members/contacts.ts'
import { Meeting, type MeetingOptions } from './members/meeting.ts'
import { type Liveness, Membership, type MembershipOptions, type SwarmConnection } from './members/membership.ts'
import { NetworkMap } from './members/network-map.ts'
import { Scout, type ScoutOptions } from './members/scout.ts'
import type { NodeMemory } from './node-memory.ts'
import type { Peer, Router, SwarmFigures } from './router.ts'
import { MEMBERS } from './topic.ts'

export interface SwarmDependencies {
  readonly log: Logger
  /** What the node remembers between starts, if anything. */
  readonly memory?: NodeMemory | undefined
  readonly resolve?: ResolveName
  /** Waits until lookups work. */
  readonly readiness?: Readiness | undefined
  /** Told of the other members that this node has a connection to. */
  readonly liveness?: Liveness | undefined
}

export interface SwarmOptions {
  /** Address that the swarm's UDP socket is bound to; may be 0.0.0.0. */
  readonly bindHost: string
  /** IPv4 address and port by which other nodes reach this one: the DHT node's, and the peer door's. */
  readonly self: NodeAddress
  readonly bootstrap: readonly BootstrapEntry[]
  /** The first is used for what this node announces, all are looked for and accepted. */
  readonly swarmKeys: readonly [Uint8Array, ...Uint8Array[]]
  readonly announcer?: AnnouncerOptions
  readonly finder?: Partial<FinderOptions>
  readonly scout?: ScoutOptions
  /** Milliseconds between looks at how many neighbours there are. */
  readonly checkInterval?: number
  /** Milliseconds between looks at the bootstrap nodes while there are neighbours. */
  readonly bootstrapInterval?: number
  readonly membership?: MembershipOptions
  readonly meeting?: MeetingOptions
}

/** A node of the DHT that has its port. */
export interface SwarmNode {
  readonly table: SwarmTable
  readonly publicKey: Uint8Array
  /** Connections to other members, by their public keys. */
  readonly meetings: {
    on(event: 'connection', listener: (connection: SwarmConnection) => void): unknown
    listen(): Promise<void>
    joinPeer(publicKey: Uint8Array): void
    leavePeer(publicKey: Uint8Array): void
  }
  /** What it stores for others. */
  readonly records: StoredRecords
  /** Tells of nodes that have come by: whoever says to be at an address, which need not be true. */
  onNode(listener: (node: NodeAddress) => void): void
  destroy(): Promise<void>
}

const CHECK_INTERVAL = 3_000
/** Milliseconds that taking the node's own announcement back may hold up its end. */
const LEAVE_TIMEOUT = 1_000

/** The router on a node of the DHT: what the parts of this room make together. */
export class SwarmRouter implements Router {
  readonly #log: Logger
  readonly #memory: NodeMemory | undefined
  readonly #node: SwarmNode
  readonly #self: NodeAddress
  readonly #ownId: string
  readonly #contacts: Contacts
  readonly #scout: Scout
  readonly #finder: Finder
  readonly #announcer: Announcer
  readonly #bootstrapping: Bootstrapping
  readonly #limit: RecordLimit
  readonly #replicas: number
  readonly #membership: Membership
  readonly #meeting: Meeting
  readonly #timer: ReturnType<typeof setInterval>
  readonly #closing = new AbortController()
  readonly #joined: Wait
  #checking: Promise<void> | undefined
  #alone = true

  constructor(
    { log, memory, resolve, liveness, readiness = new Readiness() }: SwarmDependencies,
    node: SwarmNode,
    options: SwarmOptions,
  ) {
    this.#log = log
    this.#memory = memory
    this.#node = node
    this.#self = options.self
    this.#joined = readiness.wait('the swarm is not joined yet')
    this.#ownId = Buffer.from(node.publicKey).toString('hex')
    const { self, swarmKeys, bootstrap } = options
    const map = new NetworkMap({ ...self, id: node.table.idOf(self) })
    const contacts = new Contacts({ table: node.table, map })
    this.#contacts = contacts
    this.#scout = new Scout(contacts, options.scout)
    const directory = new Directory(swarmKeys, node.publicKey, self)
    this.#replicas = options.announcer?.replicas ?? REPLICAS
    this.#finder = new Finder(
      { contacts, realms: directory.realms, ownId: this.#ownId },
      { replicas: this.#replicas, ...options.finder },
    )
    this.#announcer = new Announcer({ contacts, records: directory }, options.announcer)
    this.#scout.sampleWith((node) => this.#announcer.sampleOf(node))
    this.#limit = new RecordLimit(log)
    this.#bootstrapping = new Bootstrapping(
      { log, resolve, contacts, scout: this.#scout, remembered: () => memory?.nodes ?? [] },
      { entries: bootstrap, self, ...(options.bootstrapInterval && { interval: options.bootstrapInterval }) },
    )
    this.#membership = new Membership(swarmKeys, self, this.#livenessOf(liveness), options.membership)
    this.#meeting = new Meeting(
      {
        members: () => this.#membership.members,
        find: (signal) => this.#finder.find(MEMBERS, signal),
        join: (id) => node.meetings.joinPeer(Buffer.from(id, 'hex')),
        leave: (id) => node.meetings.leavePeer(Buffer.from(id, 'hex')),
      },
      options.meeting,
    )
    map.listen({
      joined: ({ host, port }) => {
        log.debug('node joined', { host, port, nodes: map.others })
        this.#meeting.soon()
      },
      left: ({ host, port }) => log.debug('node lost', { host, port, nodes: map.others }),
      recovered: () => undefined,
    })
    node.onNode((address) => this.#scout.met(address))
    node.meetings.on('connection', (connection) => this.#membership.take(connection))
    const check = () => {
      this.#checking ??= this.#check().finally(() => {
        this.#checking = undefined
      })
    }
    this.#timer = setInterval(check, options.checkInterval ?? CHECK_INTERVAL)
    check()
  }

  get ready(): boolean {
    return this.#joined.reasons.length === 0
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted
  }

  get neighbours(): number {
    return this.#closed ? 0 : this.#contacts.map.others
  }

  get figures(): SwarmFigures {
    const { size: records, maxSize: recordLimit, dropped } = this.#node.records
    const kept = { records, recordLimit, dropped }
    return { ...this.#announcer.figures, ...this.#finder.figures, ...this.#contacts.counts, ...kept }
  }

  async *lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    // A node that was started again is found under its former id too, for a while.
    const given = new Set<string>()
    for await (const { host, port } of this.#finder.find(key, signal)) {
      const peer = { host, port }
      if (given.has(addressOf(peer))) continue
      given.add(addressOf(peer))
      yield peer
    }
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

  async close(): Promise<void> {
    if (this.#closed) return
    this.#remember()
    this.#closing.abort()
    clearInterval(this.#timer)
    this.#finder.close()
    this.#meeting.close()
    this.#membership.close()
    this.#announcer.withdraw([MEMBERS])
    await this.#announcer.settled(AbortSignal.timeout(LEAVE_TIMEOUT)).catch(() => {
      // Others come to a door that is closed, and go on to the next peer.
      this.#log.info('not all announcements were taken back, the rest expires', {
        keys: this.#announcer.figures.waiting,
        milliseconds: RECORD_LIFE,
      })
    })
    this.#announcer.close()
    this.#scout.close()
    await this.#node.destroy()
    await this.#checking
  }

  #livenessOf(liveness: Liveness | undefined): Liveness {
    return {
      seen: (peer) => {
        this.#log.debug('member seen', { peer })
        liveness?.seen(peer)
      },
      gone: (peer) => {
        this.#log.debug('member gone', { peer })
        this.#meeting.soon()
        liveness?.gone(peer)
      },
    }
  }

  #remember(): void {
    const { host, port } = this.#self
    const others = [...this.#contacts.map.nodes()].filter((node) => node.host !== host || node.port !== port)
    this.#memory?.remember(others)
  }

  /** Looks for other nodes if it is time to, and at what has changed. */
  async #check(): Promise<void> {
    try {
      await this.#bootstrapping.attend(this.#closing.signal)
      if (this.#closed) return
      this.#remember()
      const { neighbours } = this
      const alone = neighbours === 0
      if (!this.ready) {
        this.#joined.over()
        this.#log.info('swarm joined', { id: this.#ownId, ...this.#self, neighbours, alone })
        this.#announcer.advertise([MEMBERS])
        await this.#node.meetings.listen()
      } else if (this.#alone !== alone) {
        this.#log.info(alone ? 'alone in the swarm' : 'no longer alone in the swarm', { neighbours })
      }
      this.#alone = alone
      this.#limit.adjust(this.#node.records, this.#announcer.size * this.#replicas)
      await this.#meeting.attend()
    } catch (error) {
      if (!this.#closed) this.#log.warn('looking for other nodes failed', { error })
    }
  }
}
