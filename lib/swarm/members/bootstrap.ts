import { lookup } from 'node:dns/promises'
import { isIPv4 } from 'node:net'
import type { Logger } from '../../observe/log.ts'
import { Readiness, type Wait } from '../../observe/readiness.ts'
import { bounded, unlessAborted } from '../../platform/abort.ts'
import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { DhtClient } from '../dht/client.ts'
import type { NodeAddress } from '../node.ts'
import type { Discovery } from './discovery.ts'

/** Where other nodes may be found: an address or host name, or a DNS name of which every A record is a node. */
export interface BootstrapEntry {
  readonly kind: 'host' | 'dns'
  readonly host: string
  readonly port: number
}

/** Resolves a name to its IPv4 addresses; throws what `node:dns` throws. */
export type ResolveName = (name: string) => Promise<readonly string[]>

/** Milliseconds for the names of bootstrap nodes to resolve, before the swarm is looked for without them. */
const RESOLVE_TIMEOUT = 5_000
/** Milliseconds for asking the nodes that answer, and those that they name. */
const EXPLORE_TIMEOUT = 5_000
/**
 * Milliseconds from one look at the bootstrap nodes to the next while this node is alone, and while it is not. The latter, give
 * or take a quarter, heals a swarm that fell into parts of which no node knows any of another; it costs one question to DNS,
 * and one to each bootstrap node that is not known to be alive.
 */
const INTERVALS = [3_000, 15_000] as const

/** The system's resolver, which knows /etc/hosts and the search domains of a cluster; its own timeouts bound it. */
export const resolveName: ResolveName = async (name) =>
  (await lookup(name, { family: 4, all: true })).map((found) => found.address)

/** The same resolver, asked for a name once at a time: one that does not answer would get more and more to do. */
function onceAtATime(resolve: ResolveName): ResolveName {
  const underWay = new Map<string, Promise<readonly string[]>>()
  return (name) => {
    const before = underWay.get(name)
    if (before !== undefined) return before
    const asked = resolve(name).finally(() => underWay.delete(name))
    underWay.set(name, asked)
    return asked
  }
}

export interface ResolveDependencies {
  readonly resolve?: ResolveName | undefined
  readonly onResolved?: (name: string) => void
  readonly onFailure?: (name: string, error: unknown) => void
}

/**
 * The addresses behind a bootstrap list, each once, without `self`. A name that does not resolve is left out, because it may
 * resolve later: in a cluster the record of a headless service appears with its first pod.
 *
 * @param signal ends the waiting for names that do not resolve in time; they are left out
 */
export async function resolveBootstrap(
  { resolve = resolveName, onResolved = () => undefined, onFailure = () => undefined }: ResolveDependencies,
  entries: readonly BootstrapEntry[],
  self: NodeAddress,
  signal: AbortSignal,
): Promise<readonly NodeAddress[]> {
  const resolveOrNone = async (name: string): Promise<readonly string[]> => {
    try {
      const addresses = await unlessAborted(resolve(name), signal)
      onResolved(name)
      return addresses
    } catch (error) {
      onFailure(name, error)
      return []
    }
  }
  const found = new Map<string, NodeAddress>()
  const resolved = entries.map(async ({ host }) => (isIPv4(host) ? [host] : await resolveOrNone(host)))
  for (const [index, addresses] of (await Promise.all(resolved)).entries()) {
    const { kind, port } = entries[index] as BootstrapEntry
    for (const host of kind === 'dns' ? addresses : addresses.slice(0, 1)) {
      if (host !== self.host || port !== self.port) found.set(addressOf({ host, port }), { host, port })
    }
  }
  return [...found.values()]
}

/**
 * What is said of names that do not resolve: one warning each, and how often it failed once it resolves. A node of which no
 * bootstrap entry has ever given an address, and which knows nobody, is not ready: DNS may be broken, and it would be alone.
 */
class Names {
  readonly #log: Logger
  readonly #waiting: Wait
  /** How often each name has failed since it last resolved. */
  readonly #failures = new Map<string, number>()
  #isFound: boolean

  constructor(log: Logger, readiness: Readiness, entries: readonly BootstrapEntry[]) {
    this.#log = log
    this.#waiting = readiness.wait()
    this.#isFound = entries.some(({ host }) => isIPv4(host))
  }

  failed(name: string, error: unknown): void {
    const failures = this.#failures.get(name) ?? 0
    this.#failures.set(name, failures + 1)
    if (failures === 0) this.#log.warn('bootstrap name does not resolve', { name, error })
    if (this.#isFound) return
    this.#waiting.for(`no bootstrap name has resolved yet: ${[...this.#failures.keys()].join(', ')}`)
  }

  resolved(name: string): void {
    const failures = this.#failures.get(name)
    if (failures !== undefined) this.#log.info('bootstrap name resolves', { name, failures })
    this.#failures.delete(name)
    this.found()
  }

  /** There are other nodes to ask. */
  found(): void {
    this.#isFound = true
    this.#waiting.over()
  }
}

export interface BootstrapDependencies {
  readonly log: Logger
  readonly readiness?: Readiness | undefined
  readonly resolve?: ResolveName | undefined
  readonly dht: DhtClient
  readonly discovery: Pick<Discovery, 'explore'>
  /** Nodes known from earlier. */
  remembered(): readonly NodeAddress[]
  readonly clock?: Clock
}

export interface BootstrapOptions {
  readonly entries: readonly BootstrapEntry[]
  readonly self: NodeAddress
  /** Milliseconds from one look to the next: see INTERVALS. */
  readonly intervals?: readonly [alone: number, connected: number] | undefined
}

/** Finds the swarm by its bootstrap nodes and those known from earlier, again and again. Names are resolved anew each time. */
export class Bootstrap {
  readonly #dependencies: BootstrapDependencies
  readonly #options: BootstrapOptions
  readonly #names: Names
  readonly #resolve: ResolveName
  readonly #clock: Clock
  readonly #stop = new AbortController()
  #cancel = (): void => undefined
  #looking: Promise<void> | undefined
  #onLook = (): void => undefined

  constructor(dependencies: BootstrapDependencies, options: BootstrapOptions) {
    this.#dependencies = dependencies
    this.#options = options
    this.#resolve = onceAtATime(dependencies.resolve ?? resolveName)
    this.#clock = dependencies.clock ?? systemClock
    const { dht, log, readiness = new Readiness() } = dependencies
    this.#names = new Names(log, readiness, options.entries)
    const { map } = dht
    map.listen({
      // This node itself is one of those that join.
      joined: () => {
        if (map.others > 0) this.#names.found()
      },
      left: () => {
        if (map.others === 0 && this.#looking === undefined) this.#plan()
      },
    })
  }

  /** Looks for other nodes now, and from then on; `onLook` is called after each time. */
  start(onLook: () => void): void {
    this.#onLook = onLook
    this.#run()
  }

  /** Looks for other nodes once. */
  async look(signal: AbortSignal): Promise<void> {
    const { dht, discovery, remembered } = this.#dependencies
    const { entries, self } = this.#options
    const isAlone = dht.map.others === 0
    const resolved = await bounded(RESOLVE_TIMEOUT, signal, (resolving) =>
      resolveBootstrap(
        {
          resolve: this.#resolve,
          onResolved: (name) => this.#names.resolved(name),
          onFailure: (name, error) => {
            if (!signal.aborted) this.#names.failed(name, error)
          },
        },
        entries,
        self,
        resolving,
      ),
    )
    const candidates = isAlone ? [...resolved, ...remembered()] : resolved
    const unknown = [self, ...candidates].filter((address) => dht.map.get(address) === undefined)
    const nodes = unknown.map((address) => dht.nodeAt(address))
    await bounded(EXPLORE_TIMEOUT, signal, (exploring) => discovery.explore(nodes, exploring))
  }

  /** Ends looking, and what is under way. */
  async close(): Promise<void> {
    this.#stop.abort()
    this.#cancel()
    await this.#looking
  }

  #run(): void {
    this.#looking = this.look(this.#stop.signal)
      .then(
        () => this.#stop.signal.aborted || this.#onLook(),
        (error) => this.#dependencies.log.error('looking for other nodes failed', { error }),
      )
      .then(() => {
        this.#looking = undefined
        this.#plan()
      })
  }

  #plan(): void {
    this.#cancel()
    if (this.#stop.signal.aborted) return
    const [alone, connected] = this.#options.intervals ?? INTERVALS
    const isAlone = this.#dependencies.dht.map.others === 0
    const pause = isAlone ? alone : connected * (0.75 + Math.random() / 2)
    this.#cancel = this.#clock.after(pause, () => this.#run())
  }
}
