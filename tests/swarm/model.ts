/**
 * What a node of the swarm must do and keep, as functions of the number of nodes and of what each holds. `node tests/swarm/model.ts`
 * prints it as the tables of lib/swarm/scale.md.
 */
import { REFRESH_PERIOD, REPLICAS } from '../../lib/swarm/announce/announcer.ts'
import { PARTS } from '../../lib/swarm/announce/schedule.ts'
import { SILENCE } from '../../lib/swarm/dht/network-map.ts'
import { MOST_TOPICS } from '../../lib/swarm/dht/rpc.ts'
import { INTERVAL, RATE } from '../../lib/swarm/members/discovery.ts'
import { MAX_MEMBERS } from '../../lib/swarm/members/membership.ts'
import { createRandom } from '../unit/udx/support/random.ts'

/** The product's relevant settings. Times in seconds. */
export const SETTINGS = {
  /** Nodes that keep the record of a digest. */
  replicas: REPLICAS,
  /** A node announces everything that it holds again within this time. */
  refreshPeriod: REFRESH_PERIOD / 1_000,
  /** The time between two parts of the key space, and how many keys go to a node at a time. */
  gathering: REFRESH_PERIOD / PARTS / 1_000,
  batch: MOST_TOPICS,
  /** How often a node asks every other one for its neighbourhood, and how many it asks per second at most. */
  scoutInterval: INTERVAL / 1_000,
  scoutRate: RATE,
  /** Connections to other members; the node itself opens half of them. */
  connections: MAX_MEMBERS,
  /** How long a node must be silent to count as dead. */
  silence: SILENCE / 1_000,
} as const

/**
 * The cost of one of each on the image's runtime, Bun: CPU in milliseconds, memory in bytes, packets per second. Measured by
 * `npm run bench:swarm -- --stages calibrate,rest`, except for estimates, which say so.
 */
export const COSTS = {
  /** A record in a request with others, at its sender and at its receiver. */
  recordSent: 0.008,
  recordReceived: 0.013,
  /** A question and its answer, at either end; and a request to store, without its records. */
  asked: 0.121,
  /** Estimated costs of an idle connection to another member: CPU in milliseconds per second, packets per second. */
  connection: 0.05,
  connectionPackets: 0.5,
  /**
   * How much a process grows by a record that it keeps for others (our store filled with 80,000 of them), and by a digest that it
   * keeps announced, including the mirror's own note (resident memory at rest with 10,000 and without any). In the minute of
   * announcing it grows by more, which `calibrate` prints: most of that is garbage that is not collected yet.
   */
  record: 200,
  key: 1_780,
  /** An estimate for a known node; and, measured, a mirror among five that holds nothing. */
  node: 1_000,
  mirror: 74 * 2 ** 20,
  /**
   * Estimated bytes on the wire, with the headers of UDP and IP: a topic, a request to store without any topic, its answer, a
   * question, an answer that names 20 nodes.
   */
  topicBytes: 32,
  storeBytes: 150,
  storedBytes: 75,
  questionBytes: 105,
  answerBytes: 260,
} as const

export interface Load {
  /** Packets per second that one node sends at rest (it receives as many), and how many of them are for what it holds. */
  readonly packets: number
  readonly refreshPackets: number
  /** Kilobytes per second that it sends. */
  readonly kilobytes: number
  /** Percent of a core: in all, and for refreshing (its own digests and those that it stores for others). */
  readonly cpu: number
  readonly refreshCpu: number
  /** Records that a node keeps for others: on average, and at the fullest node. */
  readonly records: number
  readonly mostRecords: number
  readonly mebibytes: number
  /** Seconds until a node that has just started has announced everything. */
  readonly announcing: number
  /** Seconds until all notice a death. */
  readonly noticing: number
  /** Seconds of CPU that a newcomer needs for what the others store at it when it joins. */
  readonly welcome: number
  /** Percent of one core at each node while 10% of the nodes are replaced every minute. */
  readonly churnCpu: number
}

/** The load of each node in a swarm of equals. */
export function loadOf(nodes: number, digests: number): Load {
  const others = nodes - 1
  const replicas = Math.min(SETTINGS.replicas, nodes)
  const copies = digests * replicas
  const stores = copies / SETTINGS.refreshPeriod
  // The keys of a part go to the nodes of that part, and those around them, each of which first gives a token.
  const gathered = stores * SETTINGS.gathering
  const receivers = Math.min(nodes, (nodes * SETTINGS.gathering) / SETTINGS.refreshPeriod + 2 * replicas, gathered)
  const tokens = receivers / SETTINGS.gathering
  const requests = (receivers + gathered / SETTINGS.batch) / SETTINGS.gathering
  const scouting = Math.min(others / SETTINGS.scoutInterval, SETTINGS.scoutRate)
  const connections = Math.min(others, SETTINGS.connections)
  const refreshPackets = 2 * (requests + tokens)
  const packets = refreshPackets + 2 * scouting + connections * COSTS.connectionPackets
  const bytes =
    stores * COSTS.topicBytes +
    requests * (COSTS.storeBytes + COSTS.storedBytes) +
    (tokens + scouting) * (COSTS.questionBytes + COSTS.answerBytes) +
    connections * COSTS.connectionPackets * COSTS.storedBytes
  const recordCpu = COSTS.recordSent + COSTS.recordReceived
  const refreshCpu = (stores * recordCpu + 2 * (tokens + requests) * COSTS.asked) / 10
  const cpu = refreshCpu + (2 * scouting * COSTS.asked + connections * COSTS.connection) / 10
  const welcome = (copies * COSTS.recordReceived) / 1_000
  // Others replace a leaving node's records, and give a joining node its share, and it announces what it holds: three times all copies.
  const churned = (0.1 / 60) * 3 * copies * recordCpu
  const mostRecords = copies * imbalance(nodes, replicas)
  return {
    packets,
    refreshPackets,
    kilobytes: bytes / 1_000,
    cpu,
    refreshCpu,
    records: copies,
    mostRecords,
    mebibytes: (COSTS.mirror + copies * COSTS.record + digests * COSTS.key + nodes * COSTS.node) / 2 ** 20,
    announcing: (copies * COSTS.recordSent) / 1_000,
    noticing: others / scouting + SETTINGS.silence,
    welcome,
    churnCpu: cpu + churned / 10,
  }
}

/**
 * How many times the average the fullest node keeps: ids are random, so some nodes are among the closest to more topics than others.
 * Exact for one set of random ids.
 */
export function imbalance(nodes: number, replicas: number): number {
  const random = createRandom(nodes)
  const ids = Array.from({ length: nodes }, () => Math.floor(random() * 2 ** ID_BITS)).sort((a, b) => a - b)
  const shares = new Array<number>(nodes).fill(0)
  const count = Math.min(replicas, nodes)
  divide({ from: 0, to: nodes, bit: 0 }, count, 1)
  return Math.max(...shares) / (count / nodes)

  /** Assigns `wanted` nodes of a subtree of ids to its topics, which are this share of all topics. */
  function divide(part: Part, wanted: number, share: number): void {
    const { from, to, bit } = part
    if (to - from <= wanted) {
      for (let index = from; index < to; index++) shares[index] = (shares[index] ?? 0) + share
      return
    }
    let middle = from
    while (middle < to && !hasBit(ids[middle] ?? 0, bit)) middle++
    const halves: [Part, Part] = [
      { from, to: middle, bit: bit + 1 },
      { from: middle, to, bit: bit + 1 },
    ]
    // A topic takes nodes from its own side, and any missing ones from the other side, where the choice is practically random.
    for (const [near, far] of [halves, [halves[1], halves[0]] as const]) {
      const there = Math.min(near.to - near.from, wanted)
      if (there > 0) divide(near, there, share / 2)
      if (there < wanted) divide(far, wanted - there, share / 2)
    }
  }
}

/** A range of sorted ids that agree in all bits before one. */
interface Part {
  readonly from: number
  readonly to: number
  readonly bit: number
}

const ID_BITS = 48

function hasBit(id: number, bit: number): boolean {
  return Math.floor(id / 2 ** (ID_BITS - 1 - bit)) % 2 === 1
}

const POINTS: readonly (readonly [nodes: number, digests: number])[] = [
  [20, 2_000],
  [60, 10_000],
  [100, 2_000],
  [100, 5_000],
  [1_000, 5_000],
  [5_000, 5_000],
]

/** The tables of lib/swarm/scale.md. */
export function renderTables(): string {
  const at = POINTS.map(([nodes, digests]) => ({ nodes, digests, load: loadOf(nodes, digests) }))
  const whole = (value: number) => Math.round(value).toLocaleString('en')
  const rest = table(
    [
      'nodes',
      'digests each',
      'packets/s',
      'of them for refreshing',
      'kB/s',
      '% of a core',
      'of it for refreshing',
      'MiB',
    ],
    at.map(({ nodes, digests, load }) => [
      whole(nodes),
      whole(digests),
      whole(load.packets),
      whole(load.refreshPackets),
      load.kilobytes.toFixed(1),
      load.cpu.toFixed(1),
      load.refreshCpu.toFixed(1),
      whole(load.mebibytes),
    ]),
  )
  const change = table(
    [
      'nodes',
      'digests each',
      'records a node',
      'the fullest',
      'announcing all, s',
      'a death noticed, s',
      'welcome, CPU s',
      '% of a core in churn',
    ],
    at.map(({ nodes, digests, load }) => [
      whole(nodes),
      whole(digests),
      whole(load.records),
      whole(load.mostRecords),
      load.announcing.toFixed(1),
      whole(load.noticing),
      load.welcome.toFixed(1),
      load.churnCpu.toFixed(1),
    ]),
  )
  return `At rest, per node:\n\n${rest}\n\nWhen something changes:\n\n${change}`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

if (import.meta.main) console.log(renderTables())
