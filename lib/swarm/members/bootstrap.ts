import { lookup } from 'node:dns/promises'
import { isIPv4 } from 'node:net'
import type { Logger } from '../../observe/log.ts'
import { Readiness } from '../../observe/readiness.ts'
import { bounded, unlessAborted } from '../../platform/abort.ts'
import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { DhtClient } from '../dht/client.ts'
import type { NodeAddress } from '../node.ts'
import type { Discovery } from './discovery.ts'

/** Where other nodes may be: an address or host name, or a DNS name whose A records are all nodes. */
export interface BootstrapEntry {
  readonly kind: 'host' | 'dns'
  readonly host: string
  readonly port: number
}

/** Resolves a name to its IPv4 addresses; throws what `node:dns` throws. */
export type ResolveName = (name: string) => Promise<readonly string[]>

/** Milliseconds for the names of bootstrap nodes to resolve. After that the node looks for the swarm without them. */
const RESOLVE_TIMEOUT = 5_000
/** Milliseconds to ask nodes that answer, and nodes that those name. */
const EXPLORE_TIMEOUT = 5_000
/**
 * Milliseconds between two looks at the bootstrap nodes, while this node is alone and while it is not. The second one varies by
 * a quarter. It heals a swarm that fell into parts whose nodes do not know each other. A look costs one question to DNS, and
 * one to each bootstrap node that is not known to be alive.
 */
const INTERVALS = [3_000, 15_000] as const

/**
 * The system's resolver, which knows /etc/hosts and the search domains of a cluster. It has its own timeouts, and takes two
 * questions at a time on Node: those to a silent name server would pile up.
 */
export const resolveName: ResolveName = onceAtATime(async (name) =>
  (await lookup(name, { family: 4, all: true })).map((found) => found.address),
)

/** Asks a resolver for a name only once at a time: a caller that asks meanwhile gets the same answer. */
export function onceAtATime(resolve: ResolveName): ResolveName {
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
 * The addresses behind a bootstrap list, each once, without `self`. It leaves out names that do not resolve, because they may
 * resolve later: in a cluster the record of a headless service appears with its first pod.
 *
 * @param signal stops waiting for names that do not resolve in time, which are left out
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
  const resolved = entries.map(async ({ kind, host: name, port }) => {
    const addresses = isIPv4(name) ? [name] : await resolveOrNone(name)
    return (kind === 'dns' ? addresses : addresses.slice(0, 1)).map((host) => ({ host, port }))
  })
  const found = new Map((await Promise.all(resolved)).flat().map((node) => [addressOf(node), node]))
  found.delete(addressOf(self))
  return [...found.values()]
}

/**
 * Reports names that do not resolve: one warning each, and how often a name failed once it resolves. If no bootstrap entry has
 * ever given an address and the node knows nobody, it is not ready, because DNS may be broken and the node would be alone.
 */
function createNames(log: Logger, readiness: Readiness, entries: readonly BootstrapEntry[]) {
  const waiting = readiness.wait()
  /** How many times each name has failed since it last resolved. */
  const failed = new Map<string, number>()
  let isFound = entries.some(({ host }) => isIPv4(host))

  /** Call this if there are other nodes to ask. */
  function found(): void {
    isFound = true
    waiting.over()
  }

  return {
    found,

    failed(name: string, error: unknown): void {
      const failures = failed.get(name) ?? 0
      failed.set(name, failures + 1)
      if (failures === 0) log.warn('bootstrap name does not resolve', { name, error })
      if (isFound) return
      waiting.for(`no bootstrap name has resolved yet: ${[...failed.keys()].join(', ')}`)
    },

    resolved(name: string): void {
      const failures = failed.get(name)
      if (failures !== undefined) log.info('bootstrap name resolves', { name, failures })
      failed.delete(name)
      found()
    },
  }
}

export interface BootstrapDependencies {
  readonly log: Logger
  readonly readiness?: Readiness | undefined
  readonly resolve?: ResolveName | undefined
  readonly dht: DhtClient
  readonly discovery: Pick<Discovery, 'explore'>
  /** The nodes that this node knew earlier. */
  remembered(): readonly NodeAddress[]
  /** Called after each look. */
  looked(): void
  readonly clock?: Clock
}

export interface BootstrapOptions {
  readonly entries: readonly BootstrapEntry[]
  readonly self: NodeAddress
  /** Milliseconds between two looks: see {@link INTERVALS}. */
  readonly intervals?: readonly [alone: number, connected: number] | undefined
}

/**
 * Finds the swarm through bootstrap nodes and nodes that were known earlier, periodically. Names are resolved anew each time.
 */
export function createBootstrap(
  {
    log,
    readiness = new Readiness(),
    dht,
    discovery,
    remembered,
    looked,
    clock = systemClock,
    resolve,
  }: BootstrapDependencies,
  { entries, self, intervals: [alone, connected] = INTERVALS }: BootstrapOptions,
) {
  const { map } = dht
  const names = createNames(log, readiness, entries)
  const stop = new AbortController()
  let cancel = (): void => undefined
  let looking: Promise<void> | undefined
  map.on('joined', () => {
    // This node is one of the nodes that join.
    if (map.others > 0) names.found()
  })
  map.on('left', () => {
    if (map.others === 0 && looking === undefined) plan()
  })

  /** Looks for other nodes once. */
  async function look(signal: AbortSignal): Promise<void> {
    const isAlone = map.others === 0
    const onFailure = (name: string, error: unknown) => {
      if (!signal.aborted) names.failed(name, error)
    }
    const resolved = await bounded(RESOLVE_TIMEOUT, signal, (resolving) =>
      resolveBootstrap({ resolve, onResolved: names.resolved, onFailure }, entries, self, resolving),
    )
    const candidates = isAlone ? [...resolved, ...remembered()] : resolved
    const unknown = [self, ...candidates].filter((address) => map.get(address) === undefined)
    const nodes = unknown.map((address) => dht.nodeAt(address))
    await bounded(EXPLORE_TIMEOUT, signal, (exploring) => discovery.explore(nodes, exploring))
  }

  function run(): void {
    looking = look(stop.signal)
      .then(
        () => stop.signal.aborted || looked(),
        (error) => log.error('looking for other nodes failed', { error }),
      )
      .then(() => {
        looking = undefined
        plan()
      })
  }

  function plan(): void {
    cancel()
    if (stop.signal.aborted) return
    const pause = map.others === 0 ? alone : connected * (0.75 + Math.random() / 2)
    cancel = clock.after(pause, run)
  }

  return {
    /** Looks for other nodes now and periodically. */
    start: run,

    look,

    /** Stops looking, and ends a look under way. */
    async close(): Promise<void> {
      stop.abort()
      cancel()
      await looking
    },
  }
}
