import HyperDHT, { type Query } from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import { runtimeName } from '../runtime/name.ts'
import { UDX } from '../udx/index.ts'
import { Announcer, type AnnouncerOptions } from './announcer.ts'
import { type BootstrapEntry, type NodeAddress, type ResolveName, resolveBootstrap } from './bootstrap.ts'
import { Directory, type KeyPair } from './directory.ts'
import { Meeting, type MeetingOptions } from './meeting.ts'
import { type Liveness, MAX_MEMBERS, Membership, type MembershipOptions } from './membership.ts'
import type { NodeMemory } from './node-memory.ts'
import type { Peer, Router } from './router.ts'
import { MEMBERS } from './topic.ts'

export interface SwarmDependencies {
  readonly log: Logger
  /** What the node remembers between starts, if anything. */
  readonly memory?: NodeMemory | undefined
  readonly resolve?: ResolveName
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
  /** Milliseconds between looks at how many neighbours there are. */
  readonly checkInterval?: number
  readonly membership?: MembershipOptions
  readonly meeting?: MeetingOptions
}

const CHECK_INTERVAL = 3_000
/**
 * Requests under way at a time before the DHT queues them. At hyperdht's default of 80, 2,000 announcements took 18 s with
 * 400 lost tokens; at 1,000 they took 0.83 s with none.
 */
const MAX_WINDOW = 1_000
/** Records that a node stores for others before it drops old ones silently: 100 bytes each. */
const MAX_RECORDS = 262_144
/** Milliseconds for the names of bootstrap nodes to resolve, before the swarm is looked for without them. */
const RESOLVE_TIMEOUT = 5_000
/** Growth of the swarm after which topics have new closest nodes often enough to announce everything again. */
const GROWTH = 1.5
/** Milliseconds that taking the node's own announcement back may hold up its end. */
const LEAVE_TIMEOUT = 1_000

/**
 * Joins the swarm: binds its UDP port and gives the router, which becomes ready once it has looked for the other nodes. A
 * node that finds none is the first, or alone for now: it is ready all the same, and goes on looking.
 *
 * Only the given bootstrap nodes are ever asked; the public ones of Hyperswarm are not.
 *
 * @throws the system's error if the port cannot be bound
 */
export async function joinSwarm(dependencies: SwarmDependencies, options: SwarmOptions): Promise<Router> {
  const { memory } = dependencies
  const { self } = options
  const keyPair = HyperDHT.keyPair(memory?.seed)
  // Every node knows its own address, so each is made as a bootstrapper: a full member of the DHT at once, alone or not.
  // hyperdht itself is told of no bootstrap nodes: as long as its table is small, each of its queries would ask them again,
  // and a dead one would hold up every announcement for seconds.
  const dht = HyperDHT.bootstrapper(self.port, self.host, {
    host: options.bindHost,
    bootstrap: [],
    keyPair,
    maxSize: MAX_RECORDS,
    maxWindow: MAX_WINDOW,
    // The addon that hyperdht brings needs libuv, which only Node has; elsewhere it would end the process.
    ...(runtimeName === 'node' ? {} : { udx: new UDX() }),
  })
  try {
    await dht.fullyBootstrapped()
    return new HyperswarmRouter(dht, keyPair, dependencies, options)
  } catch (error) {
    // A node whose port could not be bound cannot be destroyed: that waits for the binding and fails as it did. What is
    // left then would keep the process from ending.
    await dht.destroy({ force: true }).catch(() => dht.io.networkInterfaces.destroy())
    throw error
  }
}

class HyperswarmRouter implements Router {
  readonly #log: Logger
  readonly #memory: NodeMemory | undefined
  readonly #resolve: ResolveName | undefined
  readonly #options: SwarmOptions
  readonly #swarm: Hyperswarm
  readonly #announcer: Announcer
  readonly #directory: Directory
  readonly #membership: Membership
  readonly #meeting: Meeting
  readonly #liveness: Liveness | undefined
  readonly #timer: ReturnType<typeof setInterval>
  readonly #ownId: string
  #checking: Promise<void> | undefined
  /** How many neighbours there were when everything was last announced. */
  #announcedTo = 0
  #alone = true
  #ready = false
  readonly #closing = new AbortController()

  constructor(
    dht: HyperDHT,
    keyPair: KeyPair,
    { log, memory, resolve, liveness }: SwarmDependencies,
    options: SwarmOptions,
  ) {
    this.#log = log
    this.#memory = memory
    this.#resolve = resolve
    this.#options = options
    this.#liveness = liveness
    this.#swarm = new Hyperswarm({ dht, keyPair, maxPeers: MAX_MEMBERS })
    this.#ownId = Buffer.from(keyPair.publicKey).toString('hex')
    this.#directory = new Directory({ table: dht, keyPair, log }, options.swarmKeys, options.self)
    this.#membership = new Membership(
      options.swarmKeys,
      {
        seen: (id) => {
          log.debug('member seen', { id })
          liveness?.seen(id)
        },
        gone: (id) => {
          log.debug('member gone', { id })
          this.#meeting.soon()
          liveness?.gone(id)
        },
      },
      options.membership,
    )
    this.#meeting = new Meeting(
      {
        members: () => this.#membership.members,
        find: (signal) => this.lookup(MEMBERS, signal),
        join: (id) => this.#swarm.joinPeer(Buffer.from(id, 'hex')),
        leave: (id) => this.#swarm.leavePeer(Buffer.from(id, 'hex')),
      },
      options.meeting,
    )
    this.#swarm.on('connection', (connection) => this.#membership.take(connection))
    this.#announcer = new Announcer(this.#directory, log, options.announcer)
    const check = () => {
      this.#checking ??= this.#check().finally(() => {
        this.#checking = undefined
      })
    }
    this.#timer = setInterval(check, options.checkInterval ?? CHECK_INTERVAL)
    check()
  }

  get ready(): boolean {
    return this.#ready
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted
  }

  get neighbours(): number {
    return this.#closed ? 0 : this.#swarm.dht.toArray().length
  }

  async *lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    if (signal.aborted || this.#closed) return
    yield* this.#directory.find(key, signal)
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
    this.#memory?.remember(this.#swarm.dht.toArray())
    this.#closing.abort()
    this.#directory.close()
    clearInterval(this.#timer)
    this.#announcer.close()
    this.#meeting.close()
    this.#membership.close()
    await this.#leave()
    // Together: the swarm's server would first ask neighbours that may be gone to forget its address, for up to 5 s.
    await Promise.all([this.#swarm.dht.destroy({ force: true }), this.#swarm.destroy({ force: true })])
    await this.#checking
  }

  /** Takes back that this node is a member, as far as that is quick. */
  async #leave(): Promise<void> {
    if (!this.#ready) return
    let timer: ReturnType<typeof setTimeout> | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LEAVE_TIMEOUT)
    })
    // What is not taken back expires by itself.
    await Promise.race([this.#directory.unannounce(MEMBERS).catch(() => undefined), late])
    clearTimeout(timer)
  }

  /** Asks the bootstrap nodes and those known from earlier, once; names are resolved anew each time. */
  async #findOthers(): Promise<void> {
    const { dht } = this.#swarm
    const { bootstrap, self } = this.#options
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(RESOLVE_TIMEOUT)])
    const resolved = await resolveBootstrap({ log: this.#log, resolve: this.#resolve }, bootstrap, self, signal)
    if (this.#closed) return
    const candidates = [...resolved, ...(this.#memory?.nodes ?? [])]
    const answers = await Promise.allSettled(candidates.map((node) => dht.ping(node, { retry: false })))
    if (this.#closed || !answers.some((answer) => answer.status === 'fulfilled')) return
    // The answers put those nodes into the table; a search for any target fills the rest of it.
    await finished(dht.findNode(this.#swarm.keyPair.publicKey))
  }

  /** Looks for other nodes while there are none, and announces everything again when the swarm has grown. */
  async #check(): Promise<void> {
    try {
      for (const id of this.#membership.members) this.#liveness?.seen(id)
      if (this.neighbours === 0) await this.#findOthers()
      const { neighbours } = this
      this.#memory?.remember(this.#swarm.dht.toArray())
      const alone = neighbours === 0
      if (!this.#ready) {
        this.#ready = true
        this.#announcedTo = neighbours
        this.#log.info('swarm joined', { id: this.#ownId, ...this.#options.self, neighbours, alone })
        this.#announcer.advertise([MEMBERS])
        await this.#swarm.listen()
      } else if (this.#alone !== alone) {
        this.#log.info(alone ? 'alone in the swarm' : 'no longer alone in the swarm', { neighbours })
      }
      this.#alone = alone
      if (neighbours > this.#announcedTo * GROWTH) {
        this.#announcedTo = neighbours
        this.#announcer.refreshAll()
        this.#meeting.soon()
      }
      await this.#meeting.attend()
    } catch (error) {
      if (!this.#closed) this.#log.warn('looking for other nodes failed', { error })
    }
  }
}

async function finished(query: Query<unknown>): Promise<void> {
  await query.finished()
}
