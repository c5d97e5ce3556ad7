/** The phases of a simulation: a swarm starts, answers lookups, and changes while it answers; and the observations. */
import type { RuntimeName } from '../../lib/platform/runtime.ts'
import { quantile } from '../bench/figures.ts'
import { AddressBlock } from './addresses.ts'
import { countOf, type KeyName, keyOf } from './content.ts'
import type { Tuning, Usage } from './protocol.ts'
import { type SimulatedNode, SimulatedSwarm } from './swarm.ts'
import { WorkerProcess } from './worker-process.ts'

export interface SimulationOptions {
  readonly seed: number
  readonly nodes: number
  readonly digests: number
  /** The share of a node's digests (0 to 1) that others also hold. */
  readonly shared: number
  /** Milliseconds in which a node announces all of them. */
  readonly settleTimeout: number
  /** Lookups while nothing changes. */
  readonly lookups: number
  /** How many single digests to add and withdraw again in each of the two phases. */
  readonly probes: number
  /** Seconds of churn, and the share of the nodes (0 to 1) to replace each minute. */
  readonly churnSeconds: number
  readonly churn: number
  /** Lookups per second during churn. */
  readonly lookupRate: number
  /** The runtimes of the processes that host the nodes. */
  readonly workers: readonly RuntimeName[]
  readonly tuning?: Tuning | undefined
  /** Called with the progress, in words. */
  readonly tell?: (line: string) => void
}

export interface Recall {
  readonly asked: number
  readonly found: number
  /** Addresses that were never a holder. */
  readonly strangers: readonly string[]
  /** Milliseconds to the first peer, of lookups that found one. */
  readonly took: readonly number[]
  /** Seconds from the beginning of the phase to each lookup that did not find a holder. */
  readonly missedAt: readonly number[]
}

/** Milliseconds until a new digest was found by another node, and until a withdrawn one was not found any more. */
export interface Probes {
  readonly findable: readonly number[]
  readonly gone: readonly number[]
}

export interface Phase {
  readonly recall: Recall
  readonly probes: Probes
}

export interface SimulationReport {
  readonly announcements: number
  /** The seconds for all nodes together, and the whole swarm's CPU milliseconds per announcement. */
  readonly announceSeconds: number
  readonly announceCpu: number
  /** Lookups after everything is announced, while nodes that started together still get to know each other. */
  readonly young: Recall
  readonly still: Phase
  readonly churn: Phase & {
    readonly replaced: number
    /** Nodes that stopped gracefully, but could not withdraw everything in time. */
    readonly incomplete: number
    /** Milliseconds from joining until everything was announced, of new nodes. */
    readonly settleTimes: readonly number[]
  }
  readonly records: readonly number[]
  readonly residentMebibytes: number
  /** Exit codes of the processes, which end by themselves. */
  readonly exits: readonly (number | null)[]
}

/** Milliseconds for one lookup: more than a mirror allows, since many nodes share two cores here. */
const LOOKUP_TIMEOUT = 2_000
/** It is a failure if a new digest is not found, or a withdrawn one still is, after this many milliseconds. */
const PROBE_TIMEOUT = 10_000
/** How many nodes start at the same time. */
const STARTING = 10
/** Milliseconds until a swarm that started within seconds counts as settled, and lookups per second until then. */
const YOUNG = 15_000
const YOUNG_RATE = 40
/** How many lookups run at the same time while nothing changes. */
const ASKING = 4

/** @throws when a node does not come up, a lookup fails, or a probe is not found at all */
export async function simulate(options: SimulationOptions): Promise<SimulationReport> {
  const { seed, tell = () => undefined } = options
  const addresses = await AddressBlock.reserve(seed)
  const workers = options.workers.map((runtime) => new WorkerProcess(runtime))
  try {
    const swarm = new SimulatedSwarm(workers, addresses, options)
    const announced = await comeUp(swarm, options)
    tell(
      `${options.nodes} nodes announced ${announced.announcements} digests in ${announced.announceSeconds.toFixed(1)} s, ` +
        `${announced.announceCpu.toFixed(2)} ms of the swarm's CPU each`,
    )
    const young = await youngPhase(swarm)
    tell(`just come up: ${describeRecall(young)}`)
    const still = await stillPhase(swarm, options)
    tell(`still: ${describePhase(still)}`)
    const churn = await churnPhase(swarm, options)
    tell(
      `churn: ${describePhase(churn)}; ${churn.replaced} nodes replaced, settled after ` +
        `${describe(churn.settleTimes)} ms, ${churn.incomplete} stopped without withdrawing all`,
    )
    const usage = await swarm.usage()
    const records = usage.flatMap(({ nodes }) => nodes.map((node) => node.records))
    const exits = await Promise.all(workers.map((worker) => worker.end()))
    return {
      ...announced,
      young,
      still,
      churn,
      records,
      residentMebibytes: usage.reduce((sum, { residentMebibytes }) => sum + residentMebibytes, 0),
      exits,
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.kill()))
    await addresses.close()
  }
}

async function comeUp(swarm: SimulatedSwarm, { nodes, settleTimeout }: SimulationOptions) {
  const first = await swarm.join()
  const joined = [first, ...(await inParallel(nodes - 1, STARTING, () => swarm.join()))]
  const before = cpuOf(await swarm.usage())
  const begin = performance.now()
  // All at once, as when a whole cluster starts.
  await Promise.all(joined.map((node) => swarm.announce(node, settleTimeout)))
  const took = performance.now() - begin
  const announcements = joined.reduce((sum, node) => sum + countOf(node.content), 0)
  const announceCpu = (cpuOf(await swarm.usage()) - before) / announcements
  return { announcements, announceSeconds: took / 1_000, announceCpu }
}

async function youngPhase(swarm: SimulatedSwarm): Promise<Recall> {
  const end = performance.now() + YOUNG
  const recall = new RecallCount(swarm)
  await atRate(YOUNG_RATE, end, () => recall.ask())
  return recall
}

async function stillPhase(swarm: SimulatedSwarm, { lookups, probes }: SimulationOptions): Promise<Phase> {
  const recall = new RecallCount(swarm)
  await inParallel(lookups, ASKING, () => recall.ask())
  const found: Probes = { findable: [], gone: [] }
  await probeInto(found, swarm, probes)
  return { recall, probes: found }
}

async function churnPhase(swarm: SimulatedSwarm, options: SimulationOptions): Promise<SimulationReport['churn']> {
  const { nodes, churn, churnSeconds, lookupRate, probes, settleTimeout } = options
  const end = performance.now() + churnSeconds * 1_000
  const recall = new RecallCount(swarm)
  const found: Probes = { findable: [], gone: [] }
  const settleTimes: number[] = []
  let replaced = 0
  let incomplete = 0
  const replace = async () => {
    const how = replaced++ % 2 === 0 ? 'drop' : 'leave'
    const complete = await swarm.stop(swarm.pick(swarm.settled), how)
    if (how === 'leave' && !complete) incomplete++
    const begin = performance.now()
    await swarm.announce(await swarm.join(), settleTimeout)
    settleTimes.push(performance.now() - begin)
  }
  await Promise.all([
    atRate((nodes * churn) / 60, end, replace),
    atRate(lookupRate, end, () => recall.ask()),
    atRate(probes / churnSeconds, end, () => probeInto(found, swarm, 1)),
  ])
  return { recall, probes: found, replaced, incomplete, settleTimes }
}

/** Asks a node for a digest that another one holds, and counts the result. */
class RecallCount implements Recall {
  readonly #swarm: SimulatedSwarm
  readonly strangers: string[] = []
  readonly took: number[] = []
  readonly missedAt: number[] = []
  readonly #begin = performance.now()
  asked = 0
  found = 0

  constructor(swarm: SimulatedSwarm) {
    this.#swarm = swarm
  }

  async ask(): Promise<void> {
    const holder = this.#swarm.pick(this.#swarm.settled)
    const name = this.#swarm.pickName(holder)
    const asker = this.#swarm.pick(this.#swarm.settled.filter((node) => node !== holder))
    let lookup: Awaited<ReturnType<SimulatedSwarm['lookup']>>
    try {
      lookup = await this.#swarm.lookup(asker, keyOf(name), LOOKUP_TIMEOUT)
    } catch (error) {
      if (isGone(asker)) return
      throw error
    }
    const { peers, took } = lookup
    this.strangers.push(...this.#swarm.strangersAmong(peers, name))
    // A node that has stopped in the meantime need neither be found nor answer.
    if (isGone(holder) || isGone(asker)) return
    this.asked++
    if (!this.#swarm.settled.some((node) => peers.includes(node.at))) {
      this.missedAt.push((performance.now() - this.#begin) / 1_000)
      return
    }
    this.found++
    this.took.push(took)
  }
}

/** Adds a digest to a node until another node finds it, and removes it until a third one no longer does. */
async function probeInto(probes: Probes, swarm: SimulatedSwarm, count: number): Promise<void> {
  const { findable, gone } = probes as { findable: number[]; gone: number[] }
  for (let done = 0; done < count; done++) {
    const holder = swarm.pick(swarm.settled)
    const range = holder.nextAdded()
    const name: KeyName = { set: range.set, index: range.from }
    const change = { node: holder.name, ranges: [range] }
    const seen = async () => {
      const asker = swarm.pick(swarm.settled.filter((node) => node !== holder))
      const { peers } = await swarm.lookup(asker, keyOf(name), LOOKUP_TIMEOUT)
      return peers.includes(holder.at)
    }
    try {
      await holder.worker.call('advertise', change)
      findable.push(await elapsedUntil('a new digest is found', async () => await seen()))
      await holder.worker.call('withdraw', change)
      gone.push(await elapsedUntil('a withdrawn digest is not found', async () => !(await seen())))
    } catch (error) {
      // The holder, or the node that looked for the digest, has been replaced in the meantime.
      if (!isGone(holder) && swarm.nodes.every((node) => !isGone(node))) throw error
    }
  }
}

function isGone({ state }: SimulatedNode): boolean {
  return state === 'gone'
}

async function elapsedUntil(what: string, condition: () => Promise<boolean>): Promise<number> {
  const begin = performance.now()
  while (!(await condition())) {
    if (performance.now() - begin > PROBE_TIMEOUT) throw new Error(`after ${PROBE_TIMEOUT} ms still not: ${what}`)
  }
  return performance.now() - begin
}

/** Runs `body` that many times, some at a time. */
async function inParallel<T>(count: number, lanes: number, body: () => Promise<T>): Promise<T[]> {
  const results: T[] = []
  let left = count
  const lane = async () => {
    while (left-- > 0) results.push(await body())
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  return results
}

/** Starts `body` that many times per second, evenly, until the end; then waits for all of them. */
async function atRate(perSecond: number, end: number, body: () => Promise<void>): Promise<void> {
  const running: Promise<void>[] = []
  if (perSecond <= 0) return
  for (let next = performance.now() + 1_000 / perSecond; next < end; next += 1_000 / perSecond) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(next - performance.now(), 0)))
    running.push(body())
  }
  await Promise.all(running)
}

function cpuOf(usage: readonly Usage[]): number {
  return usage.reduce((sum, { cpu }) => sum + cpu, 0)
}

function describePhase({ recall, probes }: Phase): string {
  return (
    `${describeRecall(recall)}; new ones findable after ${describe(probes.findable)} ms, ` +
    `withdrawn ones gone after ${describe(probes.gone)} ms`
  )
}

function describeRecall(recall: Recall): string {
  const { asked, found, strangers, took, missedAt } = recall
  const missed = missedAt.length === 0 ? '' : `, missed after ${missedAt.slice(0, 20).map((s) => s.toFixed(1))} s`
  return (
    `${found} of ${asked} found (${((100 * found) / asked).toFixed(2)} %)${missed}, first peer after ${describe(took)} ms, ` +
    `${strangers.length} addresses of strangers`
  )
}

/** Median, 99th percentile and maximum. */
function describe(samples: readonly number[]): string {
  const figures = [0.5, 0.99, 1].map((part) => quantile(samples, part).toFixed(1))
  return `${figures.join(' / ')} (median / 99 % / most of ${samples.length})`
}
