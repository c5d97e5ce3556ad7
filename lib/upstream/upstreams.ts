import { boundedLog, type Logger } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { bounded, orAborted, unlessAborted } from '../platform/abort.ts'
import { type Clock, systemClock } from '../platform/clock.ts'
import type { Probe, ProbeResult, UpstreamHost } from './probe.ts'

/** Where containerd finds a registry, after the mirror. */
export interface UpstreamPlace {
  /** In the order in which containerd asks them; at least one. */
  readonly hosts: readonly UpstreamHost[]
  /** Whether this node's hosts.toml files or images name the registry, and not only a client. */
  readonly isKnown: boolean
}

export interface UpstreamDependencies {
  readonly find: (registry: string, signal: AbortSignal) => Promise<UpstreamPlace>
  readonly probe: Probe
  readonly metrics: Pick<Metrics, 'gaugesFrom'>
  readonly log: Logger
  readonly clock?: Clock
}

/** The state of a registry, for people. */
export interface UpstreamState extends ProbeResult {
  readonly registry: string
  /** Milliseconds since 1970. */
  readonly since: number
}

/** Milliseconds for which a state counts without a new look. */
const LIFETIMES = { answers: 10_000, unasked: 10_000, silent: 2_000 } as const
/** Milliseconds after the last question about a registry for which its state is still renewed. */
const KEPT_UP = 60_000
/** How many registries are kept: a cluster uses about ten. */
const MOST_REGISTRIES = 64
/** How many hosts of a registry are asked: a hosts.toml names one or two. */
const MOST_HOSTS = 4
/** Bounds looks at registries that nothing on this node names: `burst` at once, and then one every `interval` milliseconds. */
const STRANGERS = { burst: 10, interval: 500 } as const

interface Entry {
  state: (UpstreamState & { readonly isKnown: boolean }) | undefined
  /** The time until which the state counts. */
  until: number
  askedAt: number
  looking: Promise<void> | undefined
  /** Cancels the next look. */
  cancel: () => void
}

/**
 * Knows whether registries answer. A state counts for seconds. While clients ask for a registry, its state is renewed before it
 * ends, so only the first question waits for a look.
 *
 * A registry that has answered becomes silent after two failed probes in a row, because a lost packet is no outage. A silent
 * registry answers again after one good probe.
 */
export type Upstreams = ReturnType<typeof createUpstreams>

/** @param timeout milliseconds for the probe of a host, and for a question that waits for one */
export function createUpstreams(
  { find, probe, metrics, log: unbounded, clock = systemClock }: UpstreamDependencies,
  timeout: number,
) {
  const log = boundedLog(unbounded, { now: () => clock.now() })
  /** In the order in which registries were last asked for. */
  const entries = new Map<string, Entry>()
  const closing = new AbortController()
  const { signal: closed } = closing
  /** When the next look at a stranger would be due if they came one per interval. */
  let strangersDue = Number.NEGATIVE_INFINITY
  metrics.gaugesFrom(
    'upstream_up',
    'Whether a registry answers (1) or not (0), where that is known.',
    ['registry'],
    () =>
      // Only known registries, because clients may name any, and each would become a series.
      fresh().flatMap(({ isKnown, registry, state }) =>
        isKnown && state !== 'unasked' ? [[{ registry }, Number(state === 'answers')] as const] : [],
      ),
  )

  function fresh() {
    const now = clock.now()
    return [...entries.values()].flatMap(({ state, until }) => (state !== undefined && now < until ? [state] : []))
  }

  /** Looks whether a registry answers. */
  async function look(registry: string, entry: Entry): Promise<void> {
    const before = entry.state
    const isRenewed = before !== undefined && clock.now() < entry.until
    // The old state counts until the new one is there.
    if (isRenewed) entry.until = Number.POSITIVE_INFINITY
    try {
      const { hosts, isKnown } = await find(registry, closed)
      if (!isKnown && !admitsStranger()) return forget(registry, entry)
      const ask = () => askHosts(hosts, (host) => probe(host, isKnown, timeout, closed), timeout, clock)
      let result = await ask()
      if (result.state === 'silent' && isRenewed && before.state === 'answers') result = await ask()
      closed.throwIfAborted()
      const isSame = before?.state === result.state
      entry.state = { registry, ...result, since: isSame ? before.since : Date.now(), isKnown }
      if (!isSame) tell(entry.state, before)
    } catch (error) {
      forget(registry, entry)
      throw error
    } finally {
      entry.looking = undefined
    }
    if (entries.get(registry) !== entry) return
    const lifetime = LIFETIMES[entry.state.state]
    entry.until = clock.now() + lifetime
    const ahead = Math.max(lifetime - timeout, lifetime / 2)
    entry.cancel = clock.after(ahead, () => renew(registry, entry))
    for (const [oldest, other] of entries) {
      if (entries.size <= MOST_REGISTRIES) break
      forget(oldest, other)
    }
  }

  function renew(registry: string, entry: Entry): void {
    if (clock.now() - entry.askedAt >= KEPT_UP) return
    entry.looking ??= look(registry, entry)
    entry.looking.catch((error) => {
      if (!closed.aborted) log.error('upstream cannot be probed', { registry, error })
    })
  }

  function admitsStranger(): boolean {
    const now = clock.now()
    if (strangersDue > now + (STRANGERS.burst - 1) * STRANGERS.interval) return false
    strangersDue = Math.max(strangersDue, now) + STRANGERS.interval
    return true
  }

  function forget(registry: string, entry: Entry): void {
    entry.cancel()
    entry.state = undefined
    if (entries.get(registry) === entry) entries.delete(registry)
  }

  function tell({ registry, state, reason }: UpstreamState, before: UpstreamState | undefined): void {
    if (state === 'silent') log.warn('upstream does not answer', { registry, reason })
    else if (before !== undefined) log.info('upstream answers again', { registry, reason })
  }

  return {
    /** The states that are known now. */
    get states(): readonly UpstreamState[] {
      return fresh().map(({ isKnown: _, ...state }) => state)
    },

    /**
     * Whether the registry itself resolves: it answers, or this node may not ask it and only containerd can tell.
     *
     * @throws the signal's reason, or the error of `find`
     */
    async answers(registry: string, signal: AbortSignal): Promise<boolean> {
      const now = clock.now()
      const made: Entry = { state: undefined, until: 0, askedAt: now, looking: undefined, cancel: () => undefined }
      const entry = entries.get(registry) ?? made
      entries.delete(registry)
      entries.set(registry, entry)
      entry.askedAt = now
      if (entry.state === undefined || now >= entry.until) {
        entry.looking ??= look(registry, entry)
        const { looking } = entry
        try {
          await bounded(timeout, signal, (over) => unlessAborted(looking, over))
        } catch (error) {
          signal.throwIfAborted()
          if (error instanceof DOMException && error.name === 'TimeoutError') return false
          throw error
        }
      }
      return entry.state?.state !== 'silent'
    },

    /** Cancels all looks. */
    close(): void {
      closing.abort(new Error('the upstreams are closed'))
      for (const { cancel } of entries.values()) cancel()
      entries.clear()
    },
  }
}

/**
 * Asks hosts in their order until one answers. A host that takes more than its share of `time` milliseconds is still waited for,
 * but the next one is asked too, so that a silent host does not hide one that answers. If none answers, but only containerd can
 * ask one of them, that one may answer.
 */
export async function askHosts(
  hosts: readonly UpstreamHost[],
  ask: (host: UpstreamHost) => Promise<ProbeResult>,
  time: number,
  clock: Clock = systemClock,
): Promise<ProbeResult> {
  const chosen = hosts.slice(0, MOST_HOSTS)
  const answer = Promise.withResolvers<ProbeResult>()
  const asked: Promise<ProbeResult>[] = []
  for (const host of chosen) {
    const asking = ask(host).then(({ state, reason }) => {
      const result = { state, reason: `${new URL(host.url).origin}: ${reason}` }
      if (state === 'answers') answer.resolve(result)
      return result
    })
    // Nobody waits for a host any more when another one has answered.
    asking.catch(() => undefined)
    asked.push(asking)
    const first = Promise.race([answer.promise, asking])
    const result = await bounded(time / chosen.length, undefined, (over) => orAborted(first, over), clock)
    if (result?.state === 'answers') return result
  }
  const rest = Promise.all(asked).then(
    ([first = { state: 'unasked', reason: 'there is no host to ask' } as const, ...others]) =>
      [first, ...others].find(({ state }) => state === 'unasked') ?? first,
  )
  return await Promise.race([answer.promise, rest])
}
