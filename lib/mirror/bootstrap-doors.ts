import { setTimeout as delay } from 'node:timers/promises'
import { rule } from '../containerd/rule.ts'
import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import { PeerClient } from '../peers/client.ts'
import { CLOCK_SKEW, createCredentials, DOOR_KEY } from '../peers/credentials.ts'
import { PeerError } from '../peers/error.ts'
import { createTlsIdentity } from '../peers/tls.ts'
import { bounded, unlessAborted } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { shuffled } from '../platform/shuffled.ts'
import type { ClientTls } from '../platform/socket-source.ts'
import type { Settings } from '../settings/settings.ts'
import { type BootstrapEntry, resolveBootstrap } from '../swarm/members/bootstrap.ts'
import type { NodeAddress } from '../swarm/node.ts'
import { LOOPBACK_SWARM_KEY } from '../swarm/topic.ts'
import { ipv4Addresses } from './own-address.ts'

/**
 * How a door treats this node. `accepts`: both have the same swarm key. `refuses`: their swarm keys differ, or one of them speaks
 * TLS and the other one plain HTTP. `late`: the door refuses, perhaps only because the clocks differ. `silent`: the door cannot be
 * reached.
 */
export type DoorAnswer = 'accepts' | 'refuses' | 'late' | 'silent'

export interface AskedDoor {
  readonly host: string
  readonly answer: DoorAnswer
  /** Milliseconds by which this machine's clock is ahead of the door's; missing if the door did not say. */
  readonly aheadMs?: number | undefined
}

/** The peer doors at the bootstrap addresses, as this node can ask them. */
export type BootstrapDoors = ReturnType<typeof createBootstrapDoors>

/** How many doors are asked at a time: one that accepts is enough, and a name may stand for a thousand nodes. */
const ASKED = 5
/** Milliseconds for all names to resolve, and for one door to answer. */
const RESOLVE_TIMEOUT = 2_000
const ASK_TIMEOUT = 1_000
/**
 * Milliseconds up to which a difference of clocks means nothing: a Date header counts whole seconds, and the answer takes time.
 */
const DATE_RESOLUTION = 2_000
/**
 * The system's errors on a connection that stood. With all others none came to be: nothing listens, no route leads there, a rule
 * forbids it, or this process has no descriptor left.
 */
const HUNG_UP: ReadonlySet<string> = new Set(['ECONNRESET', 'ECONNABORTED', 'EPIPE', 'EPROTO'])

type DoorSettings = Pick<Settings, 'peer-transfer' | 'swarm-key' | 'bootstrap' | 'peer-listen' | 'advertise-host'>

/**
 * Asks the peer doors at the bootstrap addresses whether this node has the right swarm key. A node with a wrong key hears
 * nothing over UDP, because every datagram is sealed. The peer doors have the same port numbers over TCP, and they let members
 * in and nobody else.
 *
 * @param identity this node's TLS identity, if it has one already; otherwise it is made when it is needed
 */
export function createBootstrapDoors(settings: DoorSettings, identity?: ClientTls) {
  const transfer = settings['peer-transfer']
  const swarmKeys = settings['swarm-key'] ?? [LOOPBACK_SWARM_KEY]
  const credentials = createCredentials(swarmKeys)
  const tls = transfer === 'tls' ? (identity ?? createTlsIdentity(swarmKeys)) : undefined
  const client = new PeerClient({ headTimeout: ASK_TIMEOUT, tls })

  async function askOne(peer: NodeAddress, signal: AbortSignal): Promise<AskedDoor> {
    const { host } = peer
    const ticket = credentials.ticket(DOOR_KEY, 'HEAD', addressOf(peer))
    try {
      const call = { method: 'HEAD', path: '/v2/', headers: ticket.headers } as const
      const { status, headers, body } = await client.call(peer, call, signal)
      await body.cancel()
      const ahead = Date.now() - Date.parse(headers.get('date') ?? '')
      const told = { host, aheadMs: Number.isNaN(ahead) ? undefined : ahead }
      // A TLS handshake succeeds only with the same key. If the door then refuses the capability, its address or a clock is
      // wrong, but not the key.
      if (ticket.proves(status, headers) || transfer === 'tls') return { ...told, answer: 'accepts' }
      return { ...told, answer: Math.abs(ahead) > CLOCK_SKEW ? 'late' : 'refuses' }
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof PeerError)) throw error
      const { code = '' } = (error.cause ?? {}) as NodeJS.ErrnoException
      const isNowhere = error.failure === 'silent' || (/^E[A-Z0-9]+$/.test(code) && !HUNG_UP.has(code))
      // Otherwise something listens there, but does not speak this way, or not with this node.
      return { host, answer: isNowhere ? 'silent' : 'refuses' }
    }
  }

  return {
    /**
     * Asks some of the doors, or none if no address is known. Takes at most {@link RESOLVE_TIMEOUT} and twice
     * {@link ASK_TIMEOUT}.
     *
     * @throws the signal's reason
     */
    async ask(signal: AbortSignal): Promise<readonly AskedDoor[]> {
      signal.throwIfAborted()
      const { port } = settings['peer-listen']
      const own = new Set(ipv4Addresses().map(({ address }) => address))
      const entries: readonly BootstrapEntry[] = settings.bootstrap ?? []
      const self = { host: settings['advertise-host'] ?? '127.0.0.1', port }
      const known = await bounded(RESOLVE_TIMEOUT, signal, (resolving) =>
        resolveBootstrap({}, entries, self, resolving),
      )
      const others = known.filter((peer) => !(own.has(peer.host) && peer.port === port))
      const doors = await Promise.all(
        shuffled(others)
          .slice(0, ASKED)
          .map((peer) => askOne(peer, signal)),
      )
      signal.throwIfAborted()
      return doors
    },
    close(): void {
      client.close()
    },
  }
}

/** The problems that the answers show, in words such as `10.0.0.2 does not answer over TCP`. */
export function problemsOf(doors: readonly AskedDoor[]) {
  const of = (wanted: DoorAnswer) => doors.filter(({ answer }) => answer === wanted).map(({ host }) => host)
  const say = (hosts: readonly string[], verbs: readonly [one: string, more: string], rest: string) =>
    hosts.length === 0 ? undefined : `${hosts.join(', ')} ${verbs[hosts.length === 1 ? 0 : 1]} ${rest}`
  const clock = clockOf(doors)
  const isSilent = doors.every(({ answer }) => answer === 'silent')
  return {
    key: say(of('refuses'), ['refuses', 'refuse'], 'this node: its swarm key or --peer-transfer differs'),
    silence: isSilent ? say(of('silent'), ['does', 'do'], 'not answer over TCP') : undefined,
    /** To tell only if this node knows no member. */
    unheard: say(of('accepts'), ['lets', 'let'], 'this node in over TCP, but no node answers over UDP'),
    clock: Math.abs(clock?.ahead ?? 0) > CLOCK_SKEW ? clock?.seen : undefined,
    /** Whether a door has let this node in. Then this node works, and doors that refuse it have a wrong key or a new one. */
    isAccepted: of('accepts').length > 0,
  }
}

/** An error only if no door lets this node in: if one does, the fault is with the door that refuses. */
const severityOf = ({ isAccepted }: { readonly isAccepted: boolean }) => (isAccepted ? 'warning' : 'error')

export const DOOR_RULES = [
  rule({
    id: 'bootstrap',
    reads: (doors: readonly AskedDoor[]) => ({ doors, ...problemsOf(doors) }),
    judges({ doors, silence }) {
      if (doors.length === 0) return { severity: 'unknown', seen: '--bootstrap leads to no other node' }
      if (silence !== undefined) return { severity: 'warning', seen: silence }
      return { severity: 'ok', seen: 'addresses of --bootstrap answer over TCP' }
    },
    expected: 'an answer from one of the addresses of --bootstrap, unless this is the first node',
    why: 'a node that finds no others can neither get nor give anything',
    remedy: () => ({
      text: 'open the port of --peer-listen between the nodes, for TCP and UDP, or name other addresses',
    }),
  }),
  rule({
    id: 'swarm-key',
    reads: problemsOf,
    judges(problems) {
      if (problems.key !== undefined) return { severity: severityOf(problems), seen: problems.key }
      if (problems.isAccepted) return { severity: 'ok', seen: 'another node accepts this swarm key' }
      return { severity: 'unknown', seen: 'no other node could be asked whether its swarm key is the same' }
    },
    expected: 'the same swarm key and --peer-transfer on every node',
    why: 'nodes with different keys neither find nor answer each other; nodes that differ in --peer-transfer get nothing from each other',
    remedy: () => ({
      text: 'give this node the swarm key of the others (or change it everywhere as SECURITY.md says) and their --peer-transfer',
    }),
  }),
]

/** The rule for the clock stands alone, because it also warns while a mirror runs. */
export const CLOCK = rule({
  id: 'clock',
  reads: (doors: readonly AskedDoor[]) => doors,
  judges(doors) {
    const clock = clockOf(doors)
    if (clock === undefined) {
      const reason = doors.length === 0 ? 'no other node is known' : 'no other node answers'
      return { severity: 'unknown', seen: `there was no clock to compare with: ${reason}` }
    }
    const { ahead, seen } = clock
    if (Math.abs(ahead) < CLOCK_SKEW / 2) return { severity: 'ok', seen }
    // Never an error: this node cannot tell which clock is wrong, and clocks are set soon after a boot.
    return { severity: 'warning', seen, remedy: { text: 'synchronise the clocks of all nodes (NTP)' } }
  },
  expected: `clocks of all nodes within ${CLOCK_SKEW / 1000} s`,
  why: 'a capability is good for a minute: nodes whose clocks differ by more refuse each other’s requests',
})

/**
 * The clock of this machine beside those of other nodes: by how many milliseconds it is ahead, and that in words; `undefined` if
 * none has answered. It is the median, so that a single wrong clock among the others does not count.
 */
function clockOf(doors: readonly AskedDoor[]): { readonly ahead: number; readonly seen: string } | undefined {
  const aheads = doors.flatMap(({ aheadMs }) => aheadMs ?? []).sort((a, b) => a - b)
  const ahead = aheads[Math.floor(aheads.length / 2)]
  if (ahead === undefined) return undefined
  const nodes = `${aheads.length} other node${aheads.length === 1 ? '' : 's'}`
  if (Math.abs(ahead) <= DATE_RESOLUTION) return { ahead, seen: `the clock agrees with that of ${nodes}` }
  const seconds = Math.round(Math.abs(ahead) / 1000)
  return { ahead, seen: `the clock is ${seconds} s ${ahead > 0 ? 'ahead of' : 'behind'} that of ${nodes}` }
}

export interface DoorWatchDependencies {
  readonly doors: Pick<BootstrapDoors, 'ask'>
  /** Resolves when this node has looked for the swarm. */
  readonly joined: Promise<void>
  /** Whether this node knows no other member. A member that it knows has opened its datagrams, and so has the same key. */
  readonly isAlone: () => boolean
  readonly readiness: Readiness
  readonly log: Logger
}

/** Milliseconds between two rounds of questions. */
const WATCH_INTERVAL = 10_000

/**
 * Says why a node is alone or gets nothing: its swarm key, its clock or its --peer-transfer differs from that of others. A
 * refusal makes the node unready only while no bootstrap door accepts it and it knows no member, because one neighbour with a
 * wrong key must not make a whole cluster unready. With another --peer-transfer a node knows members: that changes node by node,
 * and a rollout waits until each node is ready. A clock that is too far off makes it unready while it knows no member: nodes take
 * no datagrams of another time.
 *
 * Once a door has let this node in, it asks no more as long as it knows other members.
 */
export function watchDoors(
  { doors, joined, isAlone, readiness, log }: DoorWatchDependencies,
  interval = WATCH_INTERVAL,
) {
  const closing = new AbortController()
  const { signal } = closing
  const told = readiness.wait('the bootstrap addresses have not been asked yet')
  const watching = watch()

  async function watch(): Promise<void> {
    while (!signal.aborted) {
      try {
        await round()
      } catch (error) {
        if (signal.aborted) return
        log.error('bootstrap addresses cannot be asked', { error })
        await delay(interval, undefined, { signal }).catch(() => undefined)
      }
    }
  }

  /** Asks, and says what the answers mean until it is time to ask again. */
  async function round(): Promise<void> {
    const [asked] = await Promise.all([doors.ask(signal), unlessAborted(joined, signal)])
    const problems = problemsOf(asked)
    do {
      told.tell(sayingOf(problems, isAlone()))
      await delay(interval, undefined, { signal })
    } while (problems.isAccepted && !isAlone())
  }

  return {
    async close(): Promise<void> {
      closing.abort(new Error('closed'))
      await watching
    },
  }
}

function sayingOf(problems: ReturnType<typeof problemsOf>, isAlone: boolean) {
  const { key, silence, unheard, clock, isAccepted } = problems
  const said = (...texts: readonly (string | undefined)[]) => texts.filter((text) => text !== undefined)
  if (isAccepted && !isAlone) return { reasons: [], notes: [] }
  // A wrong clock also is why nobody answers over UDP.
  if (isAccepted) return { reasons: said(clock), notes: clock === undefined ? said(unheard) : [] }
  if (!isAlone) return { reasons: [], notes: said(key) }
  return { reasons: said(key, clock), notes: said(silence) }
}
