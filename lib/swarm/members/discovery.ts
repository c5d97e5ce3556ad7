import { addressOf } from '../../platform/address.ts'
import { BEAT, type Clock, nextBeat, systemClock } from '../../platform/clock.ts'
import { shuffled } from '../../platform/shuffled.ts'
import type { DhtClient } from '../dht/client.ts'
import type { KnownNode } from '../dht/network-map.ts'
import type { DhtNode } from '../dht/rpc.ts'
import type { NodeAddress } from '../node.ts'

/**
 * Milliseconds in which every known node is asked again for its neighbourhood. A death is noticed after that and two more
 * requests, and a new node as soon as one of its neighbours names it.
 */
export const INTERVAL = 10_000
/**
 * Most nodes that are asked again each second, which takes a thousandth of a core. It keeps the interval for up to 200 nodes;
 * 600 nodes take half a minute.
 */
export const RATE = 20
/** How many questions may be under way, and how many routine ones are asked at a beat. */
const PARALLEL = (RATE * BEAT) / 1_000
/** The same while answers are slow. The answer to a single routine question then shows when that is over. */
const FEW = 4
const SLOW_ROUTINE = 1
/** The least milliseconds between two looks for nodes to ask, so that nodes which come up in between are asked together. */
const GATHER = 100
/** Milliseconds by which a timer may fire early. */
const EARLY = 2
/** Milliseconds between questions to a silent node that still sends something. */
const GREETING = 500
/**
 * Milliseconds between an unanswered question and the next one. The wait grows by this each time, because the node may be busy.
 */
const PATIENCE = 250
/**
 * The bits of the parts of the key space for which the first nodes are asked: 2^8 parts of 20 nodes each are enough for 5,000.
 */
const PARTS = 8
/** How many of the first nodes that answer are asked for all parts. */
const GUIDES = 4
/** If a part of the key space has no more nodes than this, its own nodes know all of it. */
const NEIGHBOURHOOD = 10

export type Discovery = ReturnType<typeof createDiscovery>

/**
 * Keeps the map up to date. It asks nodes that others have named, silent nodes until they answer or are lost, lost nodes now
 * and then, and every known node from time to time. Half of these routine questions are for the neighbourhood of the asked
 * node. The others are for the parts of the key space next to it, or no node would ever name one in another half.
 */
export function createDiscovery(dht: DhtClient, clock: Clock = systemClock, random: () => number = Math.random) {
  const { map } = dht
  const asked = new Set<DhtNode>()
  /** When each silent node was last asked because it had sent something. */
  const greeted = new WeakMap<DhtNode, number>()
  let lookedAt = clock.now() - GATHER
  /** The beat at which routine questions are asked next; infinite if no node is known. */
  let routineAt = Number.POSITIVE_INFINITY
  /** When the next look comes; infinite if none is planned. */
  let looksAt = Number.POSITIVE_INFINITY
  let cancel = (): void => undefined
  let closed = false
  map.on('named', () => plan(clock.now()))
  map.on('joined', (node) => {
    // At random, so that no node has to answer all others at once. This node does not ask itself.
    const isSelf = addressOf(node) === addressOf(map.self)
    node.exploredAt = isSelf ? Number.POSITIVE_INFINITY : clock.now() - random() * INTERVAL
    routineAt = Math.min(routineAt, nextBeat(clock, node.exploredAt + INTERVAL))
    plan(routineAt)
  })
  map.on('silent', (node) => plan(dueAt(node)))
  map.on('left', () => plan(map.lostDueAt))

  /** How many more questions may be sent now. */
  function room(): number {
    return Math.max((dht.isSlow ? FEW : PARALLEL) - asked.size, 0)
  }

  /** Plans a look for nodes to ask, at that time at the latest. */
  function plan(at: number): void {
    const next = Math.max(at, lookedAt + GATHER)
    if (closed || next >= looksAt) return
    cancel()
    looksAt = next
    cancel = clock.after(Math.max(next - clock.now(), 0), look)
  }

  function look(): void {
    const now = clock.now()
    lookedAt = now
    looksAt = Number.POSITIVE_INFINITY
    const silent = map.suspects().filter((node) => !asked.has(node))
    for (const node of silent.filter((one) => dueAt(one) <= now).slice(0, room())) void ask(node)
    for (const node of map.takeNamed(room())) void ask(node)
    for (const node of map.dueLost(now, room())) void ask(node).then(() => plan(map.lostDueAt))
    if (now >= routineAt - EARLY) askRoutine(now)
    const left = silent.filter((node) => !asked.has(node))
    plan(Math.min(routineAt, map.lostDueAt, ...left.map(dueAt)))
    if (map.unexplored > 0) plan(now)
  }

  /** Asks the nodes that are due to be asked again, those that were asked longest ago first. */
  function askRoutine(now: number): void {
    const at = routineAt
    const nodes = [...map.nodes()].sort((a, b) => a.exploredAt - b.exploredAt)
    const due = nodes.filter((node) => node.exploredAt <= at - INTERVAL && !asked.has(node))
    for (const node of due.slice(0, dht.isSlow ? Math.min(SLOW_ROUTINE, room()) : room())) {
      node.exploredAt = at
      void ask(node, partToAsk())
    }
    const oldest = nodes.reduce((least, { exploredAt }) => Math.min(least, exploredAt), Number.POSITIVE_INFINITY)
    routineAt = nextBeat(clock, Math.max(oldest + INTERVAL, now + BEAT / 2))
  }

  /** The part of the key space to ask for, in a swarm of this size; `undefined` for the node's own neighbourhood. */
  function partToAsk(): number | undefined {
    const parts = Math.ceil(Math.log2(Math.max(map.others / NEIGHBOURHOOD, 1)))
    return parts === 0 || random() < 0.5 ? undefined : Math.floor(random() * parts)
  }

  /** @param bit the first bit in which nodes of the wanted part differ from the node; missing for its own neighbourhood */
  async function ask(node: DhtNode, bit?: number): Promise<void> {
    asked.add(node)
    const target = Uint8Array.from(node.id)
    if (bit !== undefined) target[bit >> 3] = (target[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7))
    await dht.ask(node, target)
    asked.delete(node)
    const known = map.get(node)
    if (known !== undefined && known.strikes > 0) plan(dueAt(known))
  }

  return {
    /**
     * Asks these nodes now, and those that they name, until no new one is named or the signal aborts. It asks a few at a time, in
     * random order: there may be thousands of names, and thousands of nodes that start at once with the same names.
     */
    async explore(nodes: readonly DhtNode[], signal: AbortSignal): Promise<void> {
      // Those that are lost are asked last.
      const waiting = shuffled(nodes, random).sort((a, b) => Number(map.isLost(b)) - Number(map.isLost(a)))
      const parts: { readonly node: DhtNode; readonly bit: number }[] = []
      let guides = 0
      const askNext = (): Promise<void> | undefined => {
        const part = parts.pop()
        if (part !== undefined) return ask(part.node, part.bit)
        let node = waiting.pop()
        // It may have become known meanwhile.
        while (node !== undefined && map.get(node) !== undefined) node = waiting.pop()
        node ??= map.takeNamed(1)[0]
        return node && ask(node).then(() => welcome(node))
      }
      const welcome = (node: DhtNode) => {
        if (guides >= GUIDES || map.get(node) === undefined || addressOf(node) === addressOf(map.self)) return
        guides++
        for (let bit = 0; bit < PARTS; bit++) parts.push({ node, bit })
      }
      const underWay = new Set<Promise<unknown>>()
      for (;;) {
        const asking = underWay.size < PARALLEL && !signal.aborted ? askNext() : undefined
        if (asking !== undefined) {
          underWay.add(asking)
          void asking.then(() => underWay.delete(asking))
        } else if (underWay.size > 0) await Promise.race(underWay)
        else return
      }
    },

    /**
     * Notes a node that has sent something. Its address may be forged, so it must answer before it counts. A silent node may have
     * been restarted and is asked at once.
     */
    met(address: NodeAddress): void {
      const known = map.get(address)
      if (known === undefined) {
        map.met(dht.nodeAt(address))
        return
      }
      const now = clock.now()
      known.heardAt = now
      if (known.strikes === 0 || now - (greeted.get(known) ?? Number.NEGATIVE_INFINITY) < GREETING) return
      greeted.set(known, now)
      void ask(known)
    },

    close(): void {
      closed = true
      cancel()
    },
  }
}

/** When a silent node is due to be asked again. */
function dueAt({ struckAt, strikes }: KnownNode): number {
  return struckAt + PATIENCE * strikes
}
