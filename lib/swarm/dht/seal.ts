import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import type { NodeAddress } from '../members/bootstrap.ts'
import { COMPACT_LENGTH, compact, fromCompact } from '../members/compact-address.ts'

const PURPOSE = 'swarmirror/announcement/1'
/** A record holds at most 3 addresses, of which the first is the door. */
const SEAL_LENGTH = 2 * COMPACT_LENGTH

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
    return [door, fromCompact(seal.subarray(0, COMPACT_LENGTH)), fromCompact(seal.subarray(COMPACT_LENGTH))]
  }

  /** The door of a record, if a member made it for that topic. */
  open(topic: Uint8Array, publicKey: Uint8Array, addresses: readonly NodeAddress[]): NodeAddress | undefined {
    const [door, ...rest] = addresses
    if (door === undefined || rest.length !== 2) return undefined
    const given = Buffer.concat(rest.map(compact))
    return timingSafeEqual(given, this.#sealOf(topic, publicKey, door)) ? door : undefined
  }

  #sealOf(topic: Uint8Array, publicKey: Uint8Array, door: NodeAddress): Buffer {
    // All parts have a fixed length.
    const mac = createHmac('sha256', this.#secret).update(topic).update(publicKey).update(compact(door))
    return mac.digest().subarray(0, SEAL_LENGTH)
  }
}
