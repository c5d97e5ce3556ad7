import type { NodeAddress } from '../members/bootstrap.ts'
import type { TopicRecord } from './table.ts'

const KEY_LENGTH = 32
const SIGNATURE_LENGTH = 64
/** 4 bytes of IPv4 and 2 of a port, the lower one first. */
const ADDRESS_LENGTH = 6
/** A record with a peer and a signature, as opposed to one that refreshes another. */
const FLAGS = 0b101
/** Counts are one byte up to this; hyperdht answers with 20 records of 3 addresses at most. */
const MAX_COUNT = 0xfc

/** A record to be stored or removed, in the form that hyperdht reads. */
export function encodeRecord({ publicKey, relayAddresses }: TopicRecord, signature: Uint8Array): Uint8Array {
  if (relayAddresses.length > 3) throw new RangeError(`expected at most 3 addresses, got ${relayAddresses.length}`)
  const bytes = Buffer.allocUnsafe(2 + KEY_LENGTH + relayAddresses.length * ADDRESS_LENGTH + SIGNATURE_LENGTH)
  bytes[0] = FLAGS
  bytes.set(publicKey, 1)
  let at = 1 + KEY_LENGTH
  bytes[at++] = relayAddresses.length
  for (const { host, port } of relayAddresses) {
    bytes.set(host.split('.').map(Number), at)
    bytes.writeUInt16LE(port, at + 4)
    at += ADDRESS_LENGTH
  }
  bytes.set(signature, at)
  return bytes
}

/** The records of an answer; what cannot be read ends them, since anybody may answer anything. */
export function decodeRecords(value: Uint8Array): TopicRecord[] {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  const records: TopicRecord[] = []
  const count = bytes[0] ?? 0
  if (count > MAX_COUNT) return records
  for (let at = 1; records.length < count; ) {
    const publicKey = bytes.subarray(at, at + KEY_LENGTH)
    at += KEY_LENGTH
    const addresses = bytes[at++]
    if (addresses === undefined || addresses > MAX_COUNT || at + addresses * ADDRESS_LENGTH > bytes.length) break
    const relayAddresses: NodeAddress[] = []
    for (let index = 0; index < addresses; index++, at += ADDRESS_LENGTH) {
      relayAddresses.push({ host: bytes.subarray(at, at + 4).join('.'), port: bytes.readUInt16LE(at + 4) })
    }
    records.push({ publicKey: Uint8Array.from(publicKey), relayAddresses })
  }
  return records
}
