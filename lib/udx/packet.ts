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
 * The protocol has no written standard, the shipped addon (udx-native 1.21) is the reference.
 */
export const HEADER_SIZE = 20
export const MAGIC = 0xff
export const VERSION = 1

/** Flags of byte 2. A packet with none of them is a pure acknowledgement. */
export const FLAG_DATA = 1
export const FLAG_END = 2
export const FLAG_SACK = 4
export const FLAG_MESSAGE = 8
export const FLAG_DESTROY = 16
export const FLAG_HEARTBEAT = 32

/** Flags of the packets that take a sequence number and have to be acknowledged. */
export const FLAGS_NUMBERED = FLAG_DATA | FLAG_END

/** Most SACK ranges in a packet: what the addon writes at most. */
export const MAX_SACK_RANGES = 50

/** Largest padding of an MTU probe in bytes: its length travels in the one byte of the data offset. */
export const MAX_PADDING = 255

/** A decoded header. Mutable on purpose: one object serves all the packets of a socket. */
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

/** Reads the header at the start of `packet` into `into`. False, and `into` untouched, if the packet is not one of UDX. */
export function readHeader(packet: Buffer, into: Header): boolean {
  if (packet.length < HEADER_SIZE || packet[0] !== MAGIC || packet[1] !== VERSION) return false
  into.flags = packet[2] as number
  into.dataOffset = packet[3] as number
  into.id = packet.readUInt32LE(4)
  into.rwnd = packet.readUInt32LE(8)
  into.seq = packet.readUInt32LE(12)
  into.ack = packet.readUInt32LE(16)
  return true
}

/** Writes a whole header at the start of `packet`. */
export function writeHeader(packet: Buffer, header: Readonly<Header>): void {
  packet[0] = MAGIC
  packet[1] = VERSION
  packet[2] = header.flags
  packet[3] = header.dataOffset
  packet.writeUInt32LE(header.id, 4)
  packet.writeUInt32LE(header.rwnd, 8)
  packet.writeUInt32LE(header.seq, 12)
  packet.writeUInt32LE(header.ack, 16)
}

/** Brings window and ack of a packet that is sent again up to date. */
export function refreshHeader(packet: Buffer, rwnd: number, ack: number): void {
  packet.writeUInt32LE(rwnd, 8)
  packet.writeUInt32LE(ack, 16)
}

/** Rewrites the stream id of a packet: all that a relay does to it. */
export function rewriteId(packet: Buffer, id: number): void {
  packet.writeUInt32LE(id, 4)
}

/** A copy of an MTU probe with `padding` bytes of padding, as an ordinary packet without any. */
export function withoutPadding(probe: Buffer, padding: number): Buffer {
  const packet = Buffer.allocUnsafeSlow(probe.length - padding)
  probe.copy(packet, 0, 0, HEADER_SIZE)
  probe.copy(packet, HEADER_SIZE, HEADER_SIZE + padding)
  packet[3] = 0
  return packet
}

/**
 * Where the payload starts, or -1 for a packet that is shorter than its data offset says. A SACK without data offset has
 * no payload: its ranges fill the packet.
 */
export function payloadStart(header: Readonly<Header>, length: number): number {
  if (header.dataOffset === 0 && (header.flags & FLAG_SACK) !== 0) return length
  const start = HEADER_SIZE + header.dataOffset
  return start > length ? -1 : start
}

/**
 * Calls `each` with the SACK ranges `[start, end)` of a packet, in their order. Ranges that are empty or backward are left
 * out, as is what follows the fiftieth.
 */
export function readSacks(packet: Buffer, header: Readonly<Header>, each: (start: number, end: number) => void): void {
  const bytes = header.dataOffset === 0 ? packet.length - HEADER_SIZE : header.dataOffset
  const last = Math.min(HEADER_SIZE + Math.min(bytes, MAX_SACK_RANGES * 8), packet.length) - 8
  for (let at = HEADER_SIZE; at <= last; at += 8) {
    const start = packet.readUInt32LE(at)
    const end = packet.readUInt32LE(at + 4)
    if (((end - start) | 0) > 0) each(start, end)
  }
}

/**
 * Writes SACK ranges, given as flat pairs, behind the header. `ranges[from]` is the first one.
 *
 * @returns the length of the packet in bytes
 */
export function writeSacks(packet: Buffer, ranges: readonly number[], from: number, count: number): number {
  let at = HEADER_SIZE
  for (let i = from * 2; i < (from + count) * 2; i++) at = packet.writeUInt32LE(ranges[i] as number, at)
  return at
}
