import { withoutPadding } from './packet.ts'
import type { Route } from './route.ts'

/**
 * A numbered packet that has been sent and not yet acknowledged, with what loss detection and rate measurement remember
 * about its last transmission. In one list at a time, which runs through `prev` and `next`.
 */
export class OutgoingPacket {
  readonly seq: number
  /** The whole packet as it goes onto the wire. */
  bytes: Buffer
  /** Where it went first: retransmissions go there too, even if the stream has changed its remote since. */
  readonly route: Route
  /** Bytes of the stream before this packet. */
  readonly streamOffset: number
  /** Zero bytes between header and payload, if it is an MTU probe; otherwise 0. */
  padding: number

  transmissions = 0
  lost = false
  sentAt = 0
  /** State of the rate measurement when it was sent; see rate.ts. */
  delivered = 0
  deliveredAt = 0
  firstSentAt = 0
  appLimited = false

  list: PacketList | undefined = undefined
  prev: OutgoingPacket | undefined = undefined
  next: OutgoingPacket | undefined = undefined

  constructor(seq: number, bytes: Buffer, route: Route, streamOffset: number, padding: number) {
    this.seq = seq
    this.bytes = bytes
    this.route = route
    this.streamOffset = streamOffset
    this.padding = padding
  }

  get size(): number {
    return this.bytes.length
  }

  /** Makes an ordinary packet of a probe, in a buffer of its own: the old one may still be on its way out. */
  unpad(): void {
    this.bytes = withoutPadding(this.bytes, this.padding)
    this.padding = 0
  }
}

/** A list of packets in the order of their last transmission (or loss), with removal from the middle. */
export class PacketList {
  first: OutgoingPacket | undefined = undefined
  last: OutgoingPacket | undefined = undefined
  /** Bytes of all its packets. */
  bytes = 0
  length = 0

  append(packet: OutgoingPacket): void {
    packet.list = this
    packet.prev = this.last
    packet.next = undefined
    if (this.last === undefined) this.first = packet
    else this.last.next = packet
    this.last = packet
    this.bytes += packet.size
    this.length++
  }

  remove(packet: OutgoingPacket): void {
    if (packet.list !== this) return
    if (packet.prev === undefined) this.first = packet.next
    else packet.prev.next = packet.next
    if (packet.next === undefined) this.last = packet.prev
    else packet.next.prev = packet.prev
    packet.list = undefined
    packet.prev = undefined
    packet.next = undefined
    this.bytes -= packet.size
    this.length--
  }
}

const MIN_TABLE = 64

/** The packets that are not acknowledged, by number. */
export class PacketTable {
  #slots: (OutgoingPacket | undefined)[] = new Array<OutgoingPacket | undefined>(MIN_TABLE).fill(undefined)
  /** How many packets are in it. */
  count = 0

  /** Puts a packet in. `base` is the lowest number that is still in the table. */
  add(packet: OutgoingPacket, base: number): void {
    const distance = (packet.seq - base) >>> 0
    if (distance >= this.#slots.length) this.#grow(distance + 1)
    this.#slots[packet.seq & (this.#slots.length - 1)] = packet
    this.count++
  }

  get(seq: number): OutgoingPacket | undefined {
    const packet = this.#slots[seq & (this.#slots.length - 1)]
    return packet !== undefined && packet.seq === seq ? packet : undefined
  }

  remove(packet: OutgoingPacket): void {
    this.#slots[packet.seq & (this.#slots.length - 1)] = undefined
    this.count--
  }

  clear(): void {
    this.#slots = []
    this.count = 0
  }

  #grow(needed: number): void {
    const old = this.#slots
    let size = old.length
    while (size < needed) size *= 2
    this.#slots = new Array<OutgoingPacket | undefined>(size).fill(undefined)
    for (const packet of old) if (packet !== undefined) this.#slots[packet.seq & (size - 1)] = packet
  }
}
