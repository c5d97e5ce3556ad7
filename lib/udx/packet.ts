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
/**
 * The receive window, in bytes; always the same, as that of the addon. Members send each other a few hundred bytes and read all
 * that comes, so nobody has to be held back.
 */
const WINDOW = 4 * 1024 * 1024

/** Flags of byte 2. A packet with none of them is a pure acknowledgement. */
export const FLAG_DATA = 1
export const FLAG_END = 2
/**
 * Ranges of packets that came ahead of a missing one. This implementation neither sends nor uses them, because those packets
 * come again.
 */
export const FLAG_SACK = 4
export const FLAG_MESSAGE = 8
export const FLAG_DESTROY = 16
/** Asks for an acknowledgement. The rest of such a packet is ignored. */
export const FLAG_HEARTBEAT = 32

/** Flags of packets that have a number and must be acknowledged. */
export const FLAGS_NUMBERED = FLAG_DATA | FLAG_END

/** A decoded header, without the fields that nothing here reads. */
export interface Header {
  readonly flags: number
  readonly id: number
  readonly seq: number
  readonly ack: number
}

/** Reads the header at the start of `packet`. @returns `undefined` if this is no UDX packet */
export function readHeader(packet: Uint8Array): Header | undefined {
  if (packet.length < HEADER_SIZE || packet[0] !== MAGIC || packet[1] !== VERSION) return undefined
  return {
    flags: packet[2] as number,
    id: b4a.readUInt32LE(packet, 4),
    seq: b4a.readUInt32LE(packet, 12),
    ack: b4a.readUInt32LE(packet, 16),
  }
}

/** Makes a packet of this header and payload. */
export function createPacket({ flags, id, seq, ack }: Header, payload: Uint8Array = b4a.alloc(0)): Uint8Array {
  const packet = b4a.alloc(HEADER_SIZE + payload.length)
  packet.set([MAGIC, VERSION, flags])
  b4a.writeUInt32LE(packet, id, 4)
  b4a.writeUInt32LE(packet, WINDOW, 8)
  b4a.writeUInt32LE(packet, seq, 12)
  b4a.writeUInt32LE(packet, ack, 16)
  packet.set(payload, HEADER_SIZE)
  return packet
}

/**
 * The payload of a packet with a header; `undefined` if the packet is shorter than its data offset. A SACK without data offset
 * has no payload, because its ranges fill the packet.
 */
export function payloadOf(packet: Uint8Array): Uint8Array | undefined {
  const [flags, dataOffset] = [packet[2] as number, packet[3] as number]
  if (dataOffset === 0 && (flags & FLAG_SACK) !== 0) return b4a.alloc(0)
  const start = HEADER_SIZE + dataOffset
  return start > packet.length ? undefined : packet.subarray(start)
}

/**
 * `a - b` as a signed number in [-2^31, 2^31). Packet numbers count modulo 2^32: `a` is before `b` if going forward from `a`
 * to `b` is shorter than going backward (RFC 1982 with 32 bits, as TCP does in RFC 9293, section 3.4).
 */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0
}

/** `seq + n`, wrapped. */
export function seqAdd(seq: number, n: number): number {
  return (seq + n) >>> 0
}
