import HyperDHT, { type KeyPair, type Query } from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import { runtimeName } from '../runtime/name.ts'
import { UDX } from '../udx/index.ts'
import { Announcer, type AnnouncerOptions } from './announcer.ts'
import { type BootstrapEntry, type NodeAddress, type ResolveName, resolveBootstrap } from './bootstrap.ts'
import type { NodeMemory } from './node-memory.ts'
import type { Peer, Router } from './router.ts'
import { topicOf } from './topic.ts'

export interface SwarmDependencies {
  readonly log: Logger
  /** What the node remembers between starts, if anything. */
  readonly memory?: NodeMemory | undefined
  readonly resolve?: ResolveName
}

export interface SwarmOptions {
  /** Address that the swarm's UDP socket is bound to; may be 0.0.0.0. */
  readonly bindHost: string
  /** IPv4 address and port by which other nodes reach this one: the DHT node's, and the peer door's. */
  readonly self: NodeAddress
  readonly bootstrap: readonly BootstrapEntry[]
  readonly swarmKey: Uint8Array
  readonly announcer?: AnnouncerOptions
  /** Milliseconds between looks at how many neighbours there are. */
  readonly checkInterval?: number
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
  readonly #timer: ReturnType<typeof setInterval>
  readonly #ownId: string
  #checking: Promise<void> | undefined
  /** How many neighbours there were when everything was last announced. */
  #announcedTo = 0
  #alone = true
  #ready = false
  readonly #closing = new AbortController()

  constructor(dht: HyperDHT, keyPair: KeyPair, { log, memory, resolve }: SwarmDependencies, options: SwarmOptions) {
    this.#log = log
    this.#memory = memory
    this.#resolve = resolve
    this.#options = options
    // Nodes do not talk over Hyperswarm connections yet, so nobody is let in.
    this.#swarm = new Hyperswarm({ dht, keyPair, firewall: () => true })
    this.#ownId = Buffer.from(keyPair.publicKey).toString('hex')
    this.#announcer = new Announcer(
      { announce: (key) => this.#announce(key), unannounce: (key) => this.#unannounce(key) },
      log,
      options.announcer,
    )
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
    const query = this.#swarm.dht.lookup(this.#topic(key), this.#includingSelf())
    const stop = () => query.destroy()
    signal.addEventListener('abort', stop, { once: true })
    const seen = new Set([this.#ownId])
    try {
      for await (const reply of query) {
        for (const { publicKey, relayAddresses } of reply.peers) {
          const id = Buffer.from(publicKey).toString('hex')
          const door = relayAddresses[0]
          if (door === undefined || seen.has(id)) continue
          seen.add(id)
          yield { id, host: door.host, port: door.port }
        }
      }
    } catch (error) {
      if (!signal.aborted && !this.#closed) this.#log.warn('lookup failed', { key, error })
    } finally {
      signal.removeEventListener('abort', stop)
      query.destroy()
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
    this.#memory?.remember(this.#swarm.dht.toArray())
    this.#closing.abort()
    clearInterval(this.#timer)
    this.#announcer.close()
    await this.#swarm.destroy({ force: true })
    await this.#checking
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

  async #announce(key: Key): Promise<void> {
    const { dht, keyPair } = this.#swarm
    // The node relays for itself, and its relay address tells a looker-up where the peer door is: one lookup, no more.
    await finished(dht.announce(this.#topic(key), keyPair, [this.#options.self], this.#includingSelf()))
  }

  async #unannounce(key: Key): Promise<void> {
    const { dht, keyPair } = this.#swarm
    // A node that just died must not hold up the stop of this one; what it stored went with it.
    await dht.unannounce(this.#topic(key), keyPair, { ...this.#includingSelf(), retries: 1 })
  }

  #topic(key: Key): Uint8Array {
    return topicOf(this.#options.swarmKey, key)
  }

  /**
   * A DHT node never asks itself, so of two nodes neither would find what the other one stores for it, and a node that is
   * alone could announce nothing. Every query therefore asks this node too.
   */
  #includingSelf(): { nodes: NodeAddress[] } {
    return { nodes: [this.#options.self] }
  }

  /** Looks for other nodes while there are none, and announces everything again when the swarm has grown. */
  async #check(): Promise<void> {
    try {
      if (this.neighbours === 0) await this.#findOthers()
      const { neighbours } = this
      this.#memory?.remember(this.#swarm.dht.toArray())
      const alone = neighbours === 0
      if (!this.#ready) {
        this.#ready = true
        this.#announcedTo = neighbours
        this.#log.info('swarm joined', { id: this.#ownId, ...this.#options.self, neighbours, alone })
      } else if (this.#alone !== alone) {
        this.#log.info(alone ? 'alone in the swarm' : 'no longer alone in the swarm', { neighbours })
      }
      this.#alone = alone
      if (neighbours > this.#announcedTo * GROWTH) {
        this.#announcedTo = neighbours
        this.#announcer.refreshAll()
      }
    } catch (error) {
      if (!this.#closed) this.#log.warn('looking for other nodes failed', { error })
    }
  }
}

async function finished(query: Query<unknown>): Promise<void> {
  await query.finished()
}
