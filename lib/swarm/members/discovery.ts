import { addressOf } from '../../platform/address.ts'
import { BEAT, type Clock, nextBeat, systemClock } from '../../platform/clock.ts'
import { shuffled } from '../../platform/shuffled.ts'
import type { DhtClient } from '../dht/client.ts'
import type { KnownNode } from '../dht/network-map.ts'
import type { DhtNode } from '../dht/rpc.ts'
import type { NodeAddress } from '../node.ts'

/** A topic of which a node should have a record. */
export interface Sample {
  readonly topic: Uint8Array
  /** Called with the records of that topic that the node has. */
  answered(records: readonly NodeAddress[]): void
}

/**
 * Milliseconds within which every known node is asked for its neighbourhood again. A death is noticed after that and two more
 * requests, a new node as soon as the first of its neighbours names it.
 */
export const INTERVAL = 10_000
/** Nodes asked again each second at most: a thousandth of a core. Up to 200 nodes that keeps the interval, 600 take half a minute. */
export const RATE = 20
/** Questions that are under way at a time: all that are due at a beat. */
const PARALLEL = (RATE * BEAT) / 1_000
/** The same while answers are slow, and nodes asked again each second: their answers tell when that is over. */
const FEW = 4
const SLOW_RATE = 0.5
/** Milliseconds from one look for nodes to ask to the next, at least: what comes up in between goes together. */
const GATHER = 100
/** The same for routine questions, which wait for a beat and need no timer each. */
const ROUTINE_GATHER = BEAT / 2
/** A question is due when so much of it has been gained: timers may run early by a millisecond. */
const DUE = 0.95
/** Milliseconds between questions to a silent node that sends something all the same. */
const GREETING = 500
/** Milliseconds from a question that was not answered to the next one, longer by that each time: the node may be busy. */
const PATIENCE = 250
/** The first nodes are asked for so many parts of the key space: 2^8 parts of 20 nodes each make room for 5,000. */
const PARTS = 8
/** How many of the nodes that answer first are asked for all parts. */
const GUIDES = 4
/** A part of the key space that has no more nodes than these is known to its own nodes, all of it. */
const NEIGHBOURHOOD = 10

/**
 * Keeps the map true. It asks nodes that others have named, silent ones until they answer or are lost, lost ones now and then,
 * and every known node from time to time. Half of those questions are for the neighbourhood of the node that is asked, the others
 * for the parts of the key space next to it, or no node would ever name one of another half.
 */
export class Discovery {
  readonly #dht: DhtClient
  readonly #clock: Clock
  readonly #random: () => number
  readonly #asked = new Set<DhtNode>()
  /** When a silent node was asked because it had sent something. */
  readonly #greeted = new WeakMap<DhtNode, number>()
  /** How many nodes may be asked again as a matter of routine, when it was last counted. */
  #allowance = 1
  /** Nodes still to be asked in this round of the routine. */
  #round: KnownNode[] = []
  #sampleOf: ((node: KnownNode) => Sample | undefined) | undefined
  #lookedAt: number
  /** When the next look is; infinite if none is planned. */
  #looksAt = Number.POSITIVE_INFINITY
  #cancel = (): void => undefined
  #closed = false

  constructor(dht: DhtClient, clock: Clock = systemClock, random: () => number = Math.random) {
    this.#dht = dht
    this.#clock = clock
    this.#random = random
    this.#lookedAt = clock.now() - GATHER
    dht.map.listen({
      named: () => this.#plan(clock.now()),
      joined: () => this.#plan(this.#routineAt),
      silent: (node) => this.#plan(dueAt(node)),
      left: () => this.#plan(dht.map.lostDueAt),
    })
  }

  /**
   * Asks these nodes now, and those that they name, until no new one is named or the signal aborts. It asks a few at a time and
   * in random order: there may be thousands of names, and thousands of nodes that start together with the same ones.
   */
  async explore(nodes: readonly DhtNode[], signal: AbortSignal): Promise<void> {
    const { map } = this.#dht
    const order = nodes.map((node) => ({ node, at: Number(map.isLost(node)) + this.#random() }))
    const waiting = order.sort((a, b) => b.at - a.at).map(({ node }) => node)
    const parts: { readonly node: DhtNode; readonly bit: number }[] = []
    let guides = 0
    const askNext = (): Promise<void> | undefined => {
      const part = parts.pop()
      if (part !== undefined) return this.#ask(part.node, part.bit)
      let node = waiting.pop()
      // Others may have named it meanwhile.
      while (node !== undefined && map.get(node) !== undefined) node = waiting.pop()
      node ??= map.takeNamed(1)[0]
      return node && this.#ask(node).then(() => welcome(node))
    }
    const welcome = (node: DhtNode) => {
      if (guides >= GUIDES || map.get(node) === undefined || addressOf(node) === addressOf(map.self)) return
      guides++
      for (let bit = 0; bit < PARTS; bit++) parts.push({ node, bit })
    }
    const end = Promise.withResolvers<void>()
    let underWay = 0
    const proceed = () => {
      while (underWay < PARALLEL && !signal.aborted) {
        const asked = askNext()
        if (asked === undefined) break
        underWay++
        void asked.then(() => {
          underWay--
          proceed()
        })
      }
      if (underWay === 0) end.resolve()
    }
    proceed()
    await end.promise
  }

  /**
   * Takes note of a node that has sent something. Its address may be a lie, so it has to answer before it counts. A silent
   * node, which may have been restarted, is asked at once.
   */
  met(address: NodeAddress): void {
    const { map } = this.#dht
    const known = map.get(address)
    if (known === undefined) {
      map.met(this.#dht.nodeAt(address))
      return
    }
    const now = this.#clock.now()
    known.heardAt = now
    if (known.strikes === 0 || now - (this.#greeted.get(known) ?? Number.NEGATIVE_INFINITY) < GREETING) return
    this.#greeted.set(known, now)
    void this.#ask(known)
  }

  /** Half of the routine questions to a node ask for something that it should know, where `sampleOf` names any. */
  sampleWith(sampleOf: (node: KnownNode) => Sample | undefined): void {
    this.#sampleOf = sampleOf
  }

  close(): void {
    this.#closed = true
    this.#cancel()
  }

  /** How many more nodes may be asked now. */
  get #room(): number {
    return Math.max((this.#dht.isSlow ? FEW : PARALLEL) - this.#asked.size, 0)
  }

  /** Nodes asked again each second: evenly, so that no node has to answer all others at once. */
  get #perSecond(): number {
    return Math.min((this.#dht.map.others * 1_000) / INTERVAL, this.#dht.isSlow ? SLOW_RATE : RATE)
  }

  /** When the next node may be asked again as a matter of routine. */
  get #routineAt(): number {
    // A round may have nothing to ask yet, and then leaves its allowance for the next look.
    const missing = this.#allowance >= DUE ? 1 : 1 - this.#allowance
    return nextBeat(this.#clock, this.#lookedAt + Math.max((missing * 1_000) / this.#perSecond, ROUTINE_GATHER))
  }

  /** Looks for nodes to ask at that time at the latest. */
  #plan(at: number): void {
    const looksAt = Math.max(at, this.#lookedAt + GATHER)
    if (this.#closed || looksAt >= this.#looksAt) return
    this.#cancel()
    this.#looksAt = looksAt
    this.#cancel = this.#clock.after(Math.max(looksAt - this.#clock.now(), 0), () => this.#look())
  }

  #look(): void {
    const { map } = this.#dht
    const now = this.#clock.now()
    const perSecond = this.#perSecond
    const gained = (perSecond * (now - this.#lookedAt)) / 1_000
    this.#allowance = Math.min(this.#allowance + gained, Math.max((perSecond * BEAT) / 1_000, 1))
    this.#lookedAt = now
    this.#looksAt = Number.POSITIVE_INFINITY
    for (const node of this.#suspects(now, this.#room)) void this.#ask(node)
    for (const node of map.takeNamed(this.#room)) void this.#ask(node)
    for (const node of map.dueLost(now, this.#room)) void this.#ask(node).then(() => this.#plan(map.lostDueAt))
    while (this.#allowance >= DUE && this.#room > 0) {
      const node = this.#nextOfRound(now)
      if (node === undefined) break
      this.#allowance--
      node.exploredAt = now
      const sample = this.#random() < 0.5 ? this.#sampleOf?.(node) : undefined
      void (sample === undefined ? this.#ask(node, this.#part()) : this.#check(node, sample))
    }
    const suspects = map.suspects().filter((node) => !this.#asked.has(node))
    this.#plan(Math.min(this.#routineAt, map.lostDueAt, ...suspects.map(dueAt)))
    if (map.unexplored > 0) this.#plan(now)
  }

  /** Silent nodes that it is time to ask again. */
  #suspects(now: number, count: number): KnownNode[] {
    const due = this.#dht.map.suspects().filter((node) => !this.#asked.has(node) && dueAt(node) <= now)
    return due.slice(0, count)
  }

  /** The next node of this round that is due. A round goes through all nodes; the next one takes the nodes as they are then. */
  #nextOfRound(now: number): KnownNode | undefined {
    const { map } = this.#dht
    // The allowance sets the pace; in a small swarm it must not be spent on the same node again and again.
    const before = now - INTERVAL / 2
    if (this.#round.length === 0) {
      // Nodes that have started together ask at the same beats: in one order for all, they would all ask the same nodes.
      this.#round = shuffled(
        [...map.nodes()].filter((node) => node.exploredAt <= before),
        this.#random,
      )
      this.#round.sort((a, b) => b.exploredAt - a.exploredAt)
    }
    for (;;) {
      const node = this.#round.pop()
      if (node === undefined) return undefined
      if (map.get(node) === node && node.exploredAt <= before && !this.#asked.has(node)) return node
    }
  }

  /** A part to ask for in a swarm of this size; `undefined` for the node's own neighbourhood. */
  #part(): number | undefined {
    const parts = Math.ceil(Math.log2(Math.max(this.#dht.map.others / NEIGHBOURHOOD, 1)))
    return parts === 0 || this.#random() < 0.5 ? undefined : Math.floor(this.#random() * parts)
  }

  /** The sample's topic is close to the node, so the answer names its neighbourhood as well. */
  async #check(node: KnownNode, { topic, answered }: Sample): Promise<void> {
    this.#asked.add(node)
    const reply = await this.#dht.ask(node, topic)
    this.#asked.delete(node)
    if (reply?.token !== undefined) answered(reply.records)
  }

  /** @param bit the first in which nodes of the part that is asked for differ from the node; none for its own neighbourhood */
  async #ask(node: DhtNode, bit?: number): Promise<void> {
    this.#asked.add(node)
    const target = Uint8Array.from(node.id)
    if (bit !== undefined) target[bit >> 3] = (target[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7))
    await this.#dht.ask(node, target)
    this.#asked.delete(node)
    const known = this.#dht.map.get(node)
    if (known !== undefined && known.strikes > 0) this.#plan(dueAt(known))
  }
}

/** When to ask a silent node again. */
function dueAt({ struckAt, strikes }: KnownNode): number {
  return struckAt + PATIENCE * strikes
}
