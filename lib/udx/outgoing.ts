import b4a from 'b4a'
import { withoutPadding } from './packet.ts'

/** Sends the packets of a stream. */
export interface PacketSocket {
  /** Takes a packet, which leaves at the end of the turn. The bytes must never change again. */
  transmit(bytes: Uint8Array, port: number, host: string): void
}

/** Where the packets of a stream go: from which socket, to which address, and to which stream there. */
export interface Route {
  readonly socket: PacketSocket
  readonly remoteId: number
  readonly port: number
  readonly host: string
}

/**
 * A numbered packet that has been sent and not yet acknowledged, with what loss detection and rate measurement remember about
 * its last transmission. It is in one list at a time, linked by `prev` and `next`: moving it costs no allocation.
 */
export class OutgoingPacket {
  readonly seq: number
  /** The whole packet as it is sent. */
  bytes: Uint8Array
  /** Where it went first. Retransmissions go there too, even if the stream has changed its remote since. */
  readonly route: Route
  /** Bytes of the stream before this packet. */
  readonly streamOffset: number
  /** Zero bytes between header and payload if it is an MTU probe, otherwise 0. */
  padding: number

  transmissions = 0
  sentAt = 0
  /** State of the rate measurement when it was sent; see rate.ts. */
  delivered = 0
  deliveredAt = 0
  firstSentAt = 0
  appLimited = false

  list: PacketList | undefined = undefined
  prev: OutgoingPacket | undefined = undefined
  next: OutgoingPacket | undefined = undefined

  constructor(seq: number, bytes: Uint8Array, route: Route, streamOffset: number, padding: number) {
    this.seq = seq
    this.bytes = bytes
    this.route = route
    this.streamOffset = streamOffset
    this.padding = padding
  }

  get size(): number {
    return this.bytes.length
  }

  /** Makes a probe an ordinary packet, in a buffer of its own: the old one may not have left yet. */
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

/** Used buffers at the front of the queue from which on it is worth moving the rest. */
const MAX_USED = 64

/** What has been written and no packet carries yet: buffers in order, taken in pieces of a packet's size. */
export class SendQueue {
  #buffers: Uint8Array[] = []
  /** Index of the first buffer that is not used up: taking from the front moves nothing. */
  #head = 0
  /** Bytes of that buffer that are used up. */
  #offset = 0
  #bytes = 0

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }

  push(buffer: Uint8Array): void {
    if (buffer.length === 0) return
    this.#buffers.push(buffer)
    this.#bytes += buffer.length
  }

  /** Copies the next bytes into `target` from `start`, as many as there are up to `length`. @returns how many. */
  take(target: Uint8Array, start: number, length: number): number {
    let taken = 0
    while (taken < length && this.#bytes > 0) {
      const buffer = this.#buffers[this.#head] as Uint8Array
      const count = Math.min(length - taken, buffer.length - this.#offset)
      const whole = this.#offset === 0 && count === buffer.length
      target.set(whole ? buffer : buffer.subarray(this.#offset, this.#offset + count), start + taken)
      taken += count
      this.#bytes -= count
      this.#offset += count
      if (this.#offset === buffer.length) this.#next()
    }
    return taken
  }

  clear(): void {
    this.#buffers = []
    this.#head = 0
    this.#offset = 0
    this.#bytes = 0
  }

  #next(): void {
    this.#offset = 0
    this.#head++
    if (this.#head < this.#buffers.length && this.#head < MAX_USED) return
    this.#buffers.splice(0, this.#head)
    this.#head = 0
  }
}

/** Size of a block in bytes: about forty packets. */
const BLOCK = 64 * 1024

/**
 * Memory for outgoing packets, cut from blocks: one allocation for forty packets instead of one each. No piece is used twice,
 * so a datagram that the runtime has not sent yet cannot change. A block is freed with the last of its pieces.
 */
export class Slab {
  #block = b4a.alloc(0)
  #used = 0

  /** A piece of `size` bytes with arbitrary content. */
  take(size: number): Uint8Array {
    if (this.#used + size > this.#block.length) {
      this.#block = b4a.allocUnsafeSlow(Math.max(BLOCK, size))
      this.#used = 0
    }
    const start = this.#used
    this.#used = start + size
    return this.#block.subarray(start, this.#used)
  }
}
