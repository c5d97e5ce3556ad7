import { type Logger, rareWarnings } from '../../observe/log.ts'
import type { Key } from '../../oci/key.ts'
import { addressOf } from '../../platform/address.ts'
import { BEAT, type Clock, nextBeat, systemClock } from '../../platform/clock.ts'
import type { DhtClient } from '../dht/client.ts'
import { RECORD_LIFE } from '../dht/record-store.ts'
import { RequestWindow } from './pace.ts'
import { Schedule, type ScheduleOptions, type Task } from './schedule.ts'

export interface AnnouncerDependencies {
  readonly log: Logger
  readonly dht: DhtClient
  readonly topicOf: (key: Key) => Uint8Array
  readonly clock?: Clock
  readonly random?: () => number
}

export interface AnnouncerOptions extends Partial<Omit<ScheduleOptions, 'replicas'>> {
  /** The least and the most requests that may be under way at a time. */
  readonly window?: readonly [least: number, most: number]
}

/**
 * Hyperdht's own announcements take 20, because nothing maintains them until the next one. Here a dead node is replaced within
 * seconds, and a pull for which all copies of a record are lost until then goes upstream. Every copy costs each node memory, and
 * a request for each layer of a pull. The two closest nodes are also the keepers of flights.
 */
export const REPLICAS = 4
/** A third of a record's life is left as a reserve. */
export const REFRESH_PERIOD = 20 * 60_000
/**
 * One node can answer a hundred nodes that each send 4 requests at once; 256 requests nearly fill Linux's usual buffer of 208
 * KiB.
 */
const WINDOW = [4, 256] as const
/**
 * Requests beyond the window for urgent changes: for a second or more, requests to a node that has just died may fill the
 * window. If all answers are slow there is no reserve, because then every node must send less.
 */
const RESERVE = 16
/** New keys are urgent if at most this many wait. It is more than an image has digests; a node that starts has more. */
const FEW = 64
/**
 * Milliseconds for which new keys gather, except the first ones: the layers of a pull become complete one after the other, and one
 * request to a node can be for all of them. Until then keepers send others to this node as to one that is getting them.
 */
const GATHERING = 100
/** Requests that may be sent without a pause. That takes a millisecond or two, and a pull waits no longer than that. */
const BATCH = 16
/**
 * Keeps a set of keys announced, each on the nodes closest to its topic, as the map knows them. It sends new keys as soon as they
 * have gathered, and withdrawals at once, announces others again before they expire, and moves keys when a node joins or is
 * lost. The schedule decides what to send; this part sends it, no faster than nodes answer.
 */
export function createAnnouncer(
  { log, dht, topicOf, clock = systemClock, random = Math.random }: AnnouncerDependencies,
  options: AnnouncerOptions = {},
) {
  const { refreshPeriod = REFRESH_PERIOD, recordLife = RECORD_LIFE } = options
  const warnings = rareWarnings(log, () => clock.now())
  const window = new RequestWindow(options.window ?? WINDOW)
  const schedule = new Schedule(dht.map, topicOf, random, { replicas: REPLICAS, refreshPeriod, recordLife })
  let cancel = (): void => undefined
  /** When the timer fires; infinite if none is set. */
  let runsAt = Number.POSITIVE_INFINITY
  /** When the new keys have gathered. */
  let gatheredAt = Number.NEGATIVE_INFINITY
  let closed = false
  let turnedAway = 0
  dht.map.on('joined', (node) => change(() => schedule.joined(node)))
  dht.map.on('left', (node) => change(() => schedule.left(node)))
  dht.map.on('recovered', (node) => change(() => schedule.recovered(node)))
  dht.map.on('restarted', (node) => change(() => schedule.forgot(node)))

  function change(make: () => void): void {
    if (closed) return
    make()
    plan()
  }

  /** How many requests may be sent in the most urgent lane. */
  function room(): number {
    const { urgency, waiting } = schedule
    const isUrgent = urgency === 'withdrawals' || (urgency === 'fresh' && waiting <= FEW)
    return window.room + (isUrgent && !dht.isSlow ? RESERVE : 0)
  }

  /** Sets the timer for when there is something to send and the window has room. */
  function plan(): void {
    const now = clock.now()
    const { urgency, refreshAt } = schedule
    // The next answer makes room and plans again.
    if (room() <= 0) return
    const isIdle = urgency === undefined && refreshAt > now
    const at = isIdle ? nextBeat(clock, refreshAt) : urgency === 'fresh' ? Math.max(gatheredAt, now) : now
    if (at >= runsAt) return
    cancel()
    runsAt = at
    cancel = clock.after(at - now, run)
  }

  function run(): void {
    runsAt = Number.POSITIVE_INFINITY
    for (let sent = 0; sent < BATCH && room() > 0; sent++) {
      const task = schedule.next(clock.now())
      if (task === undefined) break
      void send(task)
    }
    plan()
  }

  /** Never rejects. */
  async function send(task: Task): Promise<void> {
    const { placements, node, kind } = task
    const topics = placements.map(({ topic }) => topic)
    const sentAt = clock.now()
    window.sent()
    const outcome = await dht.change(kind, node, topics)
    window.ended(sentAt, clock.now(), outcome !== undefined)
    for (const index of outcome ?? []) {
      turnedAway++
      const refused = { node: addressOf(node), key: placements[index]?.key }
      warnings.warn('an announcement is refused: the node has no room, the next one is asked', refused)
    }
    change(() => schedule.landed(task, outcome, sentAt))
  }

  return {
    /** How many keys are announced or waiting, totals so far, and by how many milliseconds announcements are late. */
    get figures() {
      const { size: keys, waiting, refreshed, refreshAt } = schedule
      const lag = Math.max(clock.now() - refreshAt - BEAT, 0)
      return { keys, waiting, refreshed, lag, turnedAway }
    },

    /** Adds keys to keep announced. */
    advertise(keys: Iterable<Key>): void {
      const now = clock.now()
      if (gatheredAt < now && schedule.size > 0) gatheredAt = now + GATHERING
      change(() => schedule.advertise(keys, now))
    },

    /** Stops announcing keys, and removes their records. */
    withdraw(keys: Iterable<Key>): void {
      change(() => schedule.withdraw(keys))
    },

    /** Waits until all changes have reached the swarm. @throws the signal's reason if it aborts first */
    settled: (signal: AbortSignal): Promise<void> => schedule.settled(signal),

    /** Forgets all keys. Requests under way may still arrive, but no new ones begin. */
    close(): void {
      closed = true
      cancel()
      schedule.clear()
    },
  }
}
