/**
 * Rollouts of one image of one layer on a virtual clock: the keepers are real, and links share their rates evenly.
 *
 *   node tests/unit/flight/simulation.ts    prints the table of many sizes
 */
import { BEGUN_PATIENCE, roomOf } from '../../../lib/flight/downloads.ts'
import { Keeper, RENEWAL } from '../../../lib/flight/keeper.ts'
import type { Digest } from '../../../lib/oci/digest.ts'
import { addressOf } from '../../../lib/platform/address.ts'
import { shuffled } from '../../../lib/platform/shuffled.ts'
import type { Peer } from '../../../lib/swarm/router.ts'
import { createRandom } from '../udx/support/random.ts'

export interface Rollout {
  readonly seed: number
  readonly nodes: number
  /** What a node sends and receives, in parts of what the registry sends. */
  readonly link: number
  /** All ask within that part of the time that one node alone takes. */
  readonly spread: number
  /** Which part of the nodes dies in a second. */
  readonly deaths: number
}

export interface Outcome {
  /** Of the nodes that did not die, in parts of the time that one of them takes alone. */
  readonly average: number
  readonly slowest: number
  /** Images that have left the registry. */
  readonly images: number
  /** Whether all have it that did not die. */
  readonly isComplete: boolean
}

/** Of one node alone: 100 MB at 100 Mbit/s, in seconds. */
const SOLO = 8
/** A step of the clock, in seconds. */
const STEP = 0.02
/**
 * From a byte that is there to the same one at the next node, in steps: from a leader, whose containerd writes blocks of
 * 1 MiB, and from a node that follows. Measured with 5 nodes at 100 Mbit/s (containerd 1.7, two shared cores) as the time from
 * the middle of a layer in one node's files to that in the next one's: on average 0.178 s (20 samples) and 0.040 s (60).
 */
const LEADER_LAG = Math.round(0.18 / STEP)
const LAG = Math.round(0.04 / STEP)
/** How long it takes to see that a parent is dead, in seconds. */
const NOTICE = 0.6
/** Longer than that nothing takes, in parts of the time of one node alone. */
const LIMIT = 60

const DIGEST = `sha256:${'a'.repeat(64)}` as Digest

/** What a keeper says that is not there. */
const NOBODY = { holders: [], parent: undefined, crowd: 0 }

interface SimulatedNode {
  readonly peer: Peer
  readonly joinsAt: number
  from: 'nobody' | 'registry' | SimulatedNode
  /** Which part it has at each step. */
  readonly had: number[]
  isDead: boolean
  lostAt: number | undefined
  doneAt: number | undefined
  /** When it next speaks to the keepers, in seconds: when a node of the product does. */
  tellsAt: number | undefined
  begunAt: number | undefined
}

/** Lets a rollout happen. */
export function simulate({ seed, nodes: count, link, spread, deaths }: Rollout): Outcome {
  const random = createRandom(seed)
  const order = createRandom(seed)
  let step = 0
  const now = () => step * STEP
  const clock = { now: () => now() * 1000 }
  const nodes = Array.from(
    { length: count },
    (_, index): SimulatedNode => ({
      peer: { host: `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`, port: 5001 },
      joinsAt: random() * spread * SOLO,
      ...{
        from: 'nobody',
        had: [],
        isDead: false,
        lostAt: undefined,
        doneAt: undefined,
        tellsAt: undefined,
        begunAt: undefined,
      },
    }),
  )
  const byAddress = new Map(nodes.map((node) => [addressOf(node.peer), node]))
  /** The order in which they keep the digest. */
  const keepers = nodes.map((node) => ({ node, keeper: new Keeper(clock) })).sort(() => random() - 0.5)
  const asked = () => keepers.filter(({ node }) => !node.isDead).slice(0, 2)
  const hadBy = (node: SimulatedNode, at: number) => node.had[Math.max(at, 0)] ?? 0
  let sent = 0
  /** The nodes that have announced it. */
  const known = () => ({
    peers: shuffled(
      nodes.filter(({ doneAt }) => doneAt !== undefined).map(({ peer }) => peer),
      order,
    ),
    isWhole: true,
  })

  const ask = (node: SimulatedNode, not: Peer[]) => {
    const [first] = asked()
    const { holders, parent, crowd } =
      first?.keeper.ask({ digest: DIGEST, gives: true, leads: true, resumes: false, not }, node.peer, known()) ?? NOBODY
    const named =
      parent !== undefined && crowd >= holders.length ? parent : holders[Math.floor(random() * holders.length)]
    node.from = (named && byAddress.get(addressOf(named))) ?? 'registry'
    node.lostAt = undefined
  }
  const tell = (node: SimulatedNode) => {
    if (hadBy(node, step) > 0 && node.begunAt === undefined) {
      node.begunAt = now()
      node.tellsAt = now() + BEGUN_PATIENCE / 1000
    }
    node.tellsAt ??= node.joinsAt + RENEWAL / 1000
    if (now() < node.tellsAt) return
    node.tellsAt = now() + RENEWAL / 1000
    const parent = typeof node.from === 'string' || node.from.doneAt !== undefined ? undefined : node.from.peer
    const written = Math.round(hadBy(node, step) * 1e8)
    // All have had something from others before, which shows what their links carry.
    const room = roomOf(link / SOLO, hadBy(node, step) / Math.max(now() - (node.begunAt ?? now()), STEP))
    for (const { keeper } of asked())
      keeper.tell({ kind: 'arriving', digest: DIGEST, written, ...(parent && { parent }), room }, node.peer, known())
    const better = parent && asked()[0]?.keeper.better(DIGEST, node.peer, known())
    if (better !== undefined) node.from = byAddress.get(addressOf(better)) ?? node.from
  }

  const running = () => nodes.filter((node) => !node.isDead && node.doneAt === undefined)
  for (; running().length > 0 && now() < LIMIT * SOLO; step++) {
    const present = running().filter(({ joinsAt }) => joinsAt <= now())
    for (const node of present) {
      if (node.from === 'nobody') ask(node, [])
      else if (typeof node.from !== 'string' && node.from.isDead) {
        node.lostAt ??= now()
        if (now() - node.lostAt >= NOTICE) ask(node, [node.from.peer])
      }
    }
    const shares = Map.groupBy(present, ({ from }) => from)
    const next = new Map<SimulatedNode, number>()
    for (const [from, takers] of shares) {
      for (const node of takers) {
        const has = hadBy(node, step - 1)
        if (typeof from === 'string') {
          const part = Math.min(1 / takers.length, link) * (STEP / SOLO)
          next.set(node, from === 'registry' ? Math.min(has + part, 1) : has)
          if (from === 'registry') sent += Math.min(part, 1 - has)
          continue
        }
        const lag = from.from === 'registry' ? LEADER_LAG : LAG
        const there = from.isDead ? has : from.doneAt === undefined ? hadBy(from, step - lag) : 1
        next.set(node, Math.max(has, Math.min(has + (link / takers.length) * (STEP / SOLO), there)))
      }
    }
    for (const node of nodes) node.had.push(next.get(node) ?? hadBy(node, step - 1))
    for (const node of present) {
      if (hadBy(node, step) < 1) {
        tell(node)
        continue
      }
      node.doneAt = now()
    }
    if (deaths > 0) for (const node of nodes) if (!node.isDead && random() < deaths * STEP) node.isDead = true
  }
  const times = nodes.flatMap(({ doneAt, joinsAt }) =>
    doneAt === undefined ? [] : [(doneAt - joinsAt) / (SOLO * Math.max(1, 1 / link))],
  )
  return {
    average: times.reduce((sum, time) => sum + time, 0) / Math.max(times.length, 1),
    slowest: Math.max(...times),
    images: sent,
    isComplete: running().length === 0,
  }
}

if (import.meta.main) {
  for (const deaths of [0, 0.01]) {
    for (const spread of [0.05, 0.5, 2]) {
      for (const link of [1, 4, 16]) {
        for (const nodes of [10, 50, 200, 1_000]) {
          const { average, slowest, images, isComplete } = simulate({ seed: 1, nodes, link, spread, deaths })
          const figures = [average, slowest, images].map((figure) => figure.toFixed(2)).join('  ')
          console.log(
            `${nodes} nodes, links of ${link}, within ${spread}, ${deaths} die a second: ${figures} ${isComplete}`,
          )
        }
      }
    }
  }
}
