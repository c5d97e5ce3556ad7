/** Addresses of DHT nodes, and distances between ids. */

/** The address of a node. The port is the UDP port of its swarm, and also the TCP port of its peer door. */
export interface NodeAddress {
  /** IPv4. */
  readonly host: string
  readonly port: number
}

/** Bytes of a compact address: 4 for IPv4, 2 for the port. */
export const COMPACT_LENGTH = 6

/** An address as hyperdht encodes it: IPv4 in network order, and the port with its lower byte first. */
export function compact({ host, port }: NodeAddress): Uint8Array {
  const bytes = new Uint8Array(COMPACT_LENGTH)
  bytes.set(host.split('.').map(Number))
  bytes[4] = port
  bytes[5] = port >> 8
  return bytes
}

/** @throws {RangeError} if there are not {@link COMPACT_LENGTH} bytes */
export function fromCompact(bytes: Uint8Array): NodeAddress {
  if (bytes.length !== COMPACT_LENGTH) throw new RangeError(`expected ${COMPACT_LENGTH} bytes, got ${bytes.length}`)
  const [low = 0, high = 0] = bytes.subarray(4)
  return { host: bytes.subarray(0, 4).join('.'), port: low | (high << 8) }
}

/** The first six bytes as an exact number: all of a compact address. */
export function numberFrom(bytes: Uint8Array): number {
  let number = 0
  for (let at = 0; at < COMPACT_LENGTH; at++) number = number * 256 + (bytes[at] ?? 0)
  return number
}

/** The first 32 bits of an id or a topic, as an unsigned number. They are nearly always enough to compare. */
export function prefixOf(id: Uint8Array): number {
  return (((id[0] ?? 0) << 24) | ((id[1] ?? 0) << 16) | ((id[2] ?? 0) << 8) | (id[3] ?? 0)) >>> 0
}

/** How many prefixes there are. */
export const PREFIXES = 2 ** 32

/** The distance of two prefixes in Kademlia's metric. */
export function prefixDistance(a: number, b: number): number {
  return (a ^ b) >>> 0
}

/** Negative if `a` is closer to the target than `b` in Kademlia's metric, XOR; 0 only if they are equal. */
export function compareDistance(target: Uint8Array, a: Uint8Array, b: Uint8Array): number {
  for (let at = 0; at < target.length; at++) {
    const byte = target[at] ?? 0
    const difference = ((a[at] ?? 0) ^ byte) - ((b[at] ?? 0) ^ byte)
    if (difference !== 0) return difference
  }
  return 0
}
