import type { Logger } from '../../observe/log.ts'
import {
  type BootstrapEntry,
  type NodeAddress,
  onceAtATime,
  type ResolveName,
  resolveBootstrap,
  resolveName,
} from './bootstrap.ts'
import type { Contacts } from './contacts.ts'
import type { Scout } from './scout.ts'

export interface BootstrappingDependencies {
  readonly log: Logger
  readonly resolve: ResolveName | undefined
  readonly contacts: Contacts
  readonly scout: Scout
  /** Nodes known from earlier. */
  remembered(): readonly NodeAddress[]
}

export interface BootstrappingOptions {
  readonly entries: readonly BootstrapEntry[]
  readonly self: NodeAddress
  /** Milliseconds between looks at the bootstrap nodes while others are known, give or take a quarter by chance. */
  readonly interval?: number
}

/** Milliseconds for the names of bootstrap nodes to resolve, before the swarm is looked for without them. */
const RESOLVE_TIMEOUT = 5_000
/** Milliseconds for the nodes that answer, and those whom they name, to be asked. */
const EXPLORE_TIMEOUT = 5_000
/**
 * A swarm that fell into parts becomes one again after that: no node of one part may know any of the other. One question to
 * DNS, and one to each bootstrap node that is not known to be alive.
 */
const INTERVAL = 15_000

/**
 * Finds the swarm by its bootstrap nodes and those known from earlier: again and again while this node is alone, and from time
 * to time later. Names are resolved anew each time.
 */
export class Bootstrapping {
  readonly #dependencies: BootstrappingDependencies
  readonly #options: BootstrappingOptions
  readonly #resolve: ResolveName
  /** On the clock of `performance.now()`. */
  #next = 0

  constructor(dependencies: BootstrappingDependencies, options: BootstrappingOptions) {
    this.#dependencies = dependencies
    this.#options = options
    this.#resolve = onceAtATime(dependencies.resolve ?? resolveName)
  }

  /** Looks for others if there are none, or if it is time to. */
  async attend(signal: AbortSignal): Promise<void> {
    const { contacts, scout, remembered, log } = this.#dependencies
    const { entries, self, interval = INTERVAL } = this.#options
    const now = performance.now()
    const isAlone = contacts.map.others === 0
    if (!isAlone && now < this.#next) return
    this.#next = now + interval * (0.75 + Math.random() / 2)
    const resolving = AbortSignal.any([signal, AbortSignal.timeout(RESOLVE_TIMEOUT)])
    const resolved = await resolveBootstrap({ log, resolve: this.#resolve }, entries, self, resolving)
    const candidates = isAlone ? [...resolved, ...remembered()] : resolved
    const unknown = [self, ...candidates].filter((address) => contacts.map.get(address) === undefined)
    const exploring = AbortSignal.any([signal, AbortSignal.timeout(EXPLORE_TIMEOUT)])
    await scout.explore(
      unknown.map((address) => contacts.nodeAt(address)),
      exploring,
    )
  }
}
