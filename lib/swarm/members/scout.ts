import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { TableNode, TopicRecord } from '../dht/table.ts'
import type { NodeAddress } from './bootstrap.ts'
import type { Contacts } from './contacts.ts'
import type { KnownNode } from './network-map.ts'

export interface ScoutOptions {
  /** Milliseconds between looks for whom to ask. */
  readonly tick?: number
  /** Milliseconds within which every known node is asked for its neighbourhood again. */
  readonly interval?: number
  /** Nodes asked again each second at most; in a swarm too large for the interval it takes longer. */
  readonly rate?: number
  /** Questions that are under way at a time. */
  readonly parallel?: number
}

/** Something that a node should know. */
export interface Sample {
  readonly topic: Uint8Array
  /** Told the records that it has of that topic. */
  answered(records: readonly TopicRecord[]): void
}

const TICK = 100
/** A death is noticed after that and two requests, a new node when the first of its neighbours names it. */
export const INTERVAL = 10_000
/** A thousandth of a core; 600 nodes within half a minute. */
export const RATE = 20
const PARALLEL = 32
/** The same while answers are slow, and nodes asked each second as a matter of routine: an answer tells that it is over. */
const FEW = 4
const SLOW_RATE = 0.5

/** Milliseconds between questions to a silent node that sends something all the same. */
const GREETING = 500
/** Milliseconds from a question that was not answered to the next one, longer by that each time: it may be busy. */
const PATIENCE = 250
/** Parts of the key space of which the first nodes are asked: in 2^8 parts of 20 nodes each, 5,000 find room. */
const PARTS = 8
/** How many of the nodes that answer first are asked for all parts. */
const GUIDES = 4
/** A part of the key space that has no more nodes than these is known to its own nodes, all of it. */
const NEIGHBOURHOOD = 10

/**
 * Keeps the map true: asks those who were heard of, those who were silent once, lost ones now and then, and every known node
 * from time to time. Half of the questions are for the neighbourhood of the one who is asked, the others for the parts of the
 * key space next to it: or nobody would ever name a node of another half.
 */
export class Scout {
  readonly #contacts: Contacts
  readonly #clock: Clock
  readonly #random: () => number
  readonly #options: Required<ScoutOptions>
  readonly #asked = new Set<TableNode>()
  /** When nodes that were silent came by and were asked for it. */
  readonly #greeted = new WeakMap<TableNode, number>()
  /** How many may be asked as a matter of routine by now. */
  #allowance = 1
  #queue: KnownNode[] = []
  #sampleOf: ((node: KnownNode) => Sample | undefined) | undefined
  #cancel: () => void

  constructor(
    contacts: Contacts,
    options: ScoutOptions = {},
    clock: Clock = systemClock,
    random: () => number = Math.random,
  ) {
    this.#contacts = contacts
    this.#clock = clock
    this.#random = random
    this.#options = {
      tick: options.tick ?? TICK,
      interval: options.interval ?? INTERVAL,
      rate: options.rate ?? RATE,
      parallel: options.parallel ?? PARALLEL,
    }
    this.#cancel = clock.after(0, () => this.#tick())
  }

  /**
   * Asks these nodes now, and those whom they name, until nobody new is named or the signal aborts. Never more than some at a time,
   * in an order of chance: there may be thousands of names, and thousands of nodes that start together with the same ones.
   */
  async explore(nodes: readonly TableNode[], signal: AbortSignal): Promise<void> {
    const { map } = this.#contacts
    const order = nodes.map((node) => ({ node, at: Number(map.isLost(node)) + this.#random() }))
    const waiting = order.sort((a, b) => b.at - a.at).map(({ node }) => node)
    const parts: { readonly node: TableNode; readonly bit: number }[] = []
    let guides = 0
    const askNext = (): Promise<void> | undefined => {
      const part = parts.pop()
      if (part !== undefined) return this.#ask(part.node, part.bit)
      let node = waiting.pop()
      // Others may have named it before.
      while (node !== undefined && map.get(node) !== undefined) node = waiting.pop()
      node ??= map.takeHeard(1)[0]
      return node && this.#ask(node).then(() => welcome(node))
    }
    const welcome = (node: TableNode) => {
      if (guides >= GUIDES || map.get(node) === undefined || addressOf(node) === addressOf(map.self)) return
      guides++
      for (let bit = 0; bit < PARTS; bit++) parts.push({ node, bit })
    }
    const end = Promise.withResolvers<void>()
    let underWay = 0
    const proceed = () => {
      while (underWay < this.#options.parallel && !signal.aborted) {
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
   * Takes note of a node that has sent something. Its address may be a lie, so that it is asked before it counts; a node that
   * was silent, and may have been started again, at once.
   */
  met(address: NodeAddress): void {
    const { map } = this.#contacts
    const known = map.get(address)
    if (known === undefined) {
      map.met(this.#contacts.nodeAt(address))
      return
    }
    const now = this.#clock.now()
    known.heardAt = now
    if (known.strikes === 0 || now - (this.#greeted.get(known) ?? Number.NEGATIVE_INFINITY) < GREETING) return
    this.#greeted.set(known, now)
    void this.#ask(known)
  }

  /** Has half of the questions to a node be for something that it should know, as long as there is any. */
  sampleWith(sampleOf: (node: KnownNode) => Sample | undefined): void {
    this.#sampleOf = sampleOf
  }

  close(): void {
    this.#cancel()
  }

  #tick(): void {
    const { tick, interval, rate, parallel } = this.#options
    const { map } = this.#contacts
    const isSlow = this.#contacts.isSlow
    const room = () => Math.max((isSlow ? FEW : parallel) - this.#asked.size, 0)
    // Evenly, so that nobody has to answer everybody at once.
    const perSecond = Math.min((map.others * 1_000) / interval, isSlow ? SLOW_RATE : rate)
    this.#allowance = Math.min(this.#allowance + (perSecond * tick) / 1_000, Math.max(perSecond, 1))
    for (const node of this.#suspects(room())) void this.#ask(node)
    for (const node of map.takeHeard(room())) void this.#ask(node)
    for (const node of map.dueLost(this.#clock.now(), room())) void this.#ask(node)
    while (this.#allowance >= 1 && room() > 0) {
      const node = this.#nextDue()
      if (node === undefined) break
      this.#allowance--
      node.exploredAt = this.#clock.now()
      const sample = this.#random() < 0.5 ? this.#sampleOf?.(node) : undefined
      void (sample === undefined ? this.#ask(node, this.#part()) : this.#check(node, sample))
    }
    this.#cancel = this.#clock.after(tick, () => this.#tick())
  }

  #suspects(count: number): KnownNode[] {
    const found: KnownNode[] = []
    const now = this.#clock.now()
    for (const node of this.#contacts.map.nodes()) {
      if (found.length >= count) break
      if (node.strikes > 0 && !this.#asked.has(node) && node.struckAt + PATIENCE * node.strikes <= now) found.push(node)
    }
    return found
  }

  /** The next node of this round whose time has come. A round goes through all; the next one takes the nodes as they are then. */
  #nextDue(): KnownNode | undefined {
    const { map } = this.#contacts
    // The allowance is what sets the pace; in a small swarm, one in hand is not to be spent on the same node again.
    const before = this.#clock.now() - this.#options.interval / 2
    if (this.#queue.length === 0) {
      this.#queue = [...map.nodes()].filter((node) => node.exploredAt <= before)
      this.#queue.sort((a, b) => b.exploredAt - a.exploredAt)
    }
    for (;;) {
      const node = this.#queue.pop()
      if (node === undefined) return undefined
      if (map.get(node) === node && node.exploredAt <= before && !this.#asked.has(node)) return node
    }
  }

  /** A part to ask for in a swarm of this size; `undefined` for the node's own neighbourhood. */
  #part(): number | undefined {
    const parts = Math.ceil(Math.log2(Math.max(this.#contacts.map.others / NEIGHBOURHOOD, 1)))
    return parts === 0 || this.#random() < 0.5 ? undefined : Math.floor(this.#random() * parts)
  }

  /** Its topic is close to the node: so the answer names the neighbourhood as well. */
  async #check(node: KnownNode, { topic, answered }: Sample): Promise<void> {
    this.#asked.add(node)
    const reply = await this.#contacts.ask(node, topic)
    this.#asked.delete(node)
    if (reply?.token !== undefined) answered(reply.records)
  }

  /** @param bit the first in which nodes of the part that is asked for differ from the node; none for its own neighbourhood */
  async #ask(node: TableNode, bit?: number): Promise<void> {
    this.#asked.add(node)
    const target = Uint8Array.from(node.id)
    if (bit !== undefined) target[bit >> 3] = (target[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7))
    await this.#contacts.ask(node, target)
    this.#asked.delete(node)
  }
}
