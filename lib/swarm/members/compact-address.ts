import type { NodeAddress } from './bootstrap.ts'

/** Bytes of a compact address: 4 of IPv4, 2 of the port. */
export const COMPACT_LENGTH = 6

export function compact({ host, port }: NodeAddress): Buffer {
  const bytes = Buffer.alloc(COMPACT_LENGTH)
  bytes.set(host.split('.').map(Number))
  bytes.writeUInt16BE(port, 4)
  return bytes
}

export function fromCompact(bytes: Buffer): NodeAddress {
  return { host: bytes.subarray(0, 4).join('.'), port: bytes.readUInt16BE(4) }
}
