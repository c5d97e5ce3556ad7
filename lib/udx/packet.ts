import b4a from 'b4a'

/**
 * The packet format of UDX: a header of 20 bytes, all numbers little-endian.
 *
 * | byte | what |
 * | --- | --- |
 * | 0 | magic, 0xff |
 * | 1 | version, 1 |
 * | 2 | flags |
 * | 3 | data offset: bytes between the header and the payload (SACK ranges, or the padding of an MTU probe) |
 * | 4 | the receiver's stream id |
 * | 8 | receive window of the sender of this packet, in bytes |
 * | 12 | seq: number of this packet (of the next one, in a packet without DATA and END) |
 * | 16 | ack: number of the packet that is expected next |
 *
 * The protocol has no written standard; the shipped addon (udx-native 1.21) is the reference.
 */
export const HEADER_SIZE = 20
const MAGIC = 0xff
const VERSION = 1

/** Flags of byte 2. A packet with none of them is a pure acknowledgement. */
export const FLAG_DATA = 1
export const FLAG_END = 2
export const FLAG_SACK = 4
export const FLAG_MESSAGE = 8
export const FLAG_DESTROY = 16
export const FLAG_HEARTBEAT = 32

/** Flags of the packets that take a number and have to be acknowledged. */
export const FLAGS_NUMBERED = FLAG_DATA | FLAG_END

/** Most SACK ranges in a packet: what the addon writes at most. */
export const MAX_SACK_RANGES = 50

/** Largest padding of an MTU probe in bytes: its length travels in the one byte of the data offset. */
export const MAX_PADDING = 255

/** A decoded header. It is mutable so that one object serves all packets of a socket. */
export interface Header {
  flags: number
  dataOffset: number
  id: number
  rwnd: number
  seq: number
  ack: number
}

export function createHeader(): Header {
  return { flags: 0, dataOffset: 0, id: 0, rwnd: 0, seq: 0, ack: 0 }
}

/** Whether a datagram is a UDX packet. */
export function isPacket(bytes: Uint8Array): boolean {
  return bytes.length >= HEADER_SIZE && bytes[0] === MAGIC && bytes[1] === VERSION
}

/** Reads the header at the start of `packet` into `into`. @returns false, with `into` untouched, if this is no UDX packet. */
export function readHeader(packet: Uint8Array, into: Header): boolean {
  if (!isPacket(packet)) return false
  into.flags = packet[2] as number
  into.dataOffset = packet[3] as number
  into.id = b4a.readUInt32LE(packet, 4)
  into.rwnd = b4a.readUInt32LE(packet, 8)
  into.seq = b4a.readUInt32LE(packet, 12)
  into.ack = b4a.readUInt32LE(packet, 16)
  return true
}

/** Writes a whole header at the start of `packet`. */
export function writeHeader(packet: Uint8Array, header: Readonly<Header>): void {
  packet[0] = MAGIC
  packet[1] = VERSION
  packet[2] = header.flags
  packet[3] = header.dataOffset
  b4a.writeUInt32LE(packet, header.id, 4)
  b4a.writeUInt32LE(packet, header.rwnd, 8)
  b4a.writeUInt32LE(packet, header.seq, 12)
  b4a.writeUInt32LE(packet, header.ack, 16)
}

/** Updates window and ack of a packet that is sent again. */
export function refreshHeader(packet: Uint8Array, rwnd: number, ack: number): void {
  b4a.writeUInt32LE(packet, rwnd, 8)
  b4a.writeUInt32LE(packet, ack, 16)
}

/** Rewrites the stream id of a packet that is sent to another stream. */
export function rewriteId(packet: Uint8Array, id: number): void {
  b4a.writeUInt32LE(packet, id, 4)
}

/** A copy of an MTU probe with `padding` bytes of padding, as an ordinary packet without any. */
export function withoutPadding(probe: Uint8Array, padding: number): Uint8Array {
  const packet = b4a.concat([probe.subarray(0, HEADER_SIZE), probe.subarray(HEADER_SIZE + padding)])
  packet[3] = 0
  return packet
}

/**
 * Where the payload starts, or -1 if the packet is shorter than its data offset says. A SACK without data offset has no
 * payload: its ranges fill the packet.
 */
export function payloadStart(header: Readonly<Header>, length: number): number {
  if (header.dataOffset === 0 && (header.flags & FLAG_SACK) !== 0) return length
  const start = HEADER_SIZE + header.dataOffset
  return start > length ? -1 : start
}

/** Calls `each` with the first fifty SACK ranges `[start, end)` of a packet, in their order. Nothing about them is checked. */
export function readSacks(
  packet: Uint8Array,
  header: Readonly<Header>,
  each: (start: number, end: number) => void,
): void {
  const bytes = header.dataOffset === 0 ? packet.length - HEADER_SIZE : header.dataOffset
  const last = Math.min(HEADER_SIZE + Math.min(bytes, MAX_SACK_RANGES * 8), packet.length) - 8
  for (let at = HEADER_SIZE; at <= last; at += 8) each(b4a.readUInt32LE(packet, at), b4a.readUInt32LE(packet, at + 4))
}

/** Writes `count` SACK ranges behind the header, from the range `from` on. `ranges` are flat pairs. @returns the packet's length. */
export function writeSacks(packet: Uint8Array, ranges: readonly number[], from: number, count: number): number {
  let at = HEADER_SIZE
  for (let i = from * 2; i < (from + count) * 2; i++) at = b4a.writeUInt32LE(packet, ranges[i] as number, at)
  return at
}

/**
 * `a - b` as a signed number in [-2^31, 2^31). Packet numbers count modulo 2^32: `a` is before `b` if going forward from `a`
 * to `b` is shorter than going backward (RFC 1982 with 32 bits, as TCP does in RFC 9293, section 3.4).
 */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0
}

/** Whether `a` comes before `b`. */
export function seqBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0
}

/** How many numbers forward it is from `from` to `to`, in [0, 2^32). */
export function seqDistance(from: number, to: number): number {
  return (to - from) >>> 0
}

/** `seq + n`, wrapped. `n` may be negative. */
export function seqAdd(seq: number, n: number): number {
  return (seq + n) >>> 0
}

/** Places in a new ring: a power of two, so that a number's place is its lowest bits. */
const MIN_SIZE = 64

/** Values by packet number, for a range of numbers that moves forward: a ring that grows when the range does not fit. */
export class SeqRing<T> {
  #slots = new Array<T | undefined>(MIN_SIZE).fill(undefined)

  /** Stores the value of a number that has none. `base` is the lowest number in use. @returns false if it has one. */
  set(seq: number, value: T, base: number): boolean {
    const size = seqDistance(base, seq) + 1
    if (size > this.#slots.length) this.#grow(size, base)
    const index = seq & (this.#slots.length - 1)
    if (this.#slots[index] !== undefined) return false
    this.#slots[index] = value
    return true
  }

  /** The value of a number, which must lie in the range in use. */
  get(seq: number): T | undefined {
    return this.#slots[seq & (this.#slots.length - 1)]
  }

  delete(seq: number): void {
    this.#slots[seq & (this.#slots.length - 1)] = undefined
  }

  clear(): void {
    this.#slots = []
  }

  #grow(needed: number, base: number): void {
    const old = this.#slots
    let size = MIN_SIZE
    while (size < needed) size *= 2
    this.#slots = new Array<T | undefined>(size).fill(undefined)
    for (let i = 0; i < old.length; i++) {
      const seq = seqAdd(base, i)
      this.#slots[seq & (size - 1)] = old[seq & (old.length - 1)]
    }
  }
}
