import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import type { NodeAddress } from '../members/bootstrap.ts'

const PURPOSE = 'swarmirror/announcement/1'
/** An address of a record is 4 bytes of IPv4 and 2 of a port; a record holds at most 3, of which the first is the door. */
const ADDRESS_LENGTH = 6
const SEAL_LENGTH = 2 * ADDRESS_LENGTH

/**
 * Seals announcements, so that a node asks nobody for content who does not know the swarm key.
 *
 * Whoever reaches the DHT port sees topics, can announce itself to them, and as a DHT node can answer a lookup with
 * anything. A record has room for a key and addresses only, so the seal, 96 bits of an HMAC, takes the place of the second
 * and third address. Nobody is ever connected to by these records' addresses but through the first.
 */
export class AnnouncementSeal {
  readonly #secret: Uint8Array

  constructor(swarmKey: Uint8Array) {
    this.#secret = new Uint8Array(hkdfSync('sha256', swarmKey, '', PURPOSE, 32))
  }

  /** The addresses of the record by which `publicKey` announces its door to a topic. */
  seal(topic: Uint8Array, publicKey: Uint8Array, door: NodeAddress): NodeAddress[] {
    const seal = this.#sealOf(topic, publicKey, door)
    return [door, addressOf(seal.subarray(0, ADDRESS_LENGTH)), addressOf(seal.subarray(ADDRESS_LENGTH))]
  }

  /** The door of a record, if a member made it for that topic. */
  open(topic: Uint8Array, publicKey: Uint8Array, addresses: readonly NodeAddress[]): NodeAddress | undefined {
    const [door, ...rest] = addresses
    if (door === undefined || rest.length !== 2) return undefined
    const given = Buffer.concat(rest.map(bytesOf))
    return timingSafeEqual(given, this.#sealOf(topic, publicKey, door)) ? door : undefined
  }

  #sealOf(topic: Uint8Array, publicKey: Uint8Array, door: NodeAddress): Buffer {
    // All parts have a fixed length.
    const mac = createHmac('sha256', this.#secret).update(topic).update(publicKey).update(bytesOf(door))
    return mac.digest().subarray(0, SEAL_LENGTH)
  }
}

function addressOf(bytes: Buffer): NodeAddress {
  return { host: bytes.subarray(0, 4).join('.'), port: bytes.readUInt16BE(4) }
}

function bytesOf({ host, port }: NodeAddress): Buffer {
  const bytes = Buffer.alloc(ADDRESS_LENGTH)
  bytes.set(host.split('.').map(Number))
  bytes.writeUInt16BE(port, 4)
  return bytes
}
