import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import b4a from 'b4a'
import { COMPACT_LENGTH, compact, fromCompact, type NodeAddress } from '../node.ts'

const PURPOSE = 'swarmirror/announcement/2'
/** A record holds at most 3 addresses, of which the first is the door. */
const SEAL_LENGTH = 2 * COMPACT_LENGTH

/**
 * Seals announcements, so that a node asks for content only where a member, who knows the swarm key, has announced it.
 *
 * Strangers do not get this far, since every datagram is sealed (../datagram-seal.ts): this binds a record to its topic, key and
 * door. A record has room for a key and addresses only, so the seal, 96 bits of an HMAC, takes the place of the second and
 * third address. No node connects to any address of these records but the first.
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

  /** The door of a record; `undefined` unless a member made the record for that topic. */
  open(topic: Uint8Array, publicKey: Uint8Array, addresses: readonly NodeAddress[]): NodeAddress | undefined {
    const [door, ...rest] = addresses
    if (door === undefined || rest.length !== 2) return undefined
    const given = b4a.concat(rest.map(compact))
    return timingSafeEqual(given, this.#sealOf(topic, publicKey, door)) ? door : undefined
  }

  #sealOf(topic: Uint8Array, publicKey: Uint8Array, door: NodeAddress): Uint8Array {
    // All parts have a fixed length.
    const mac = createHmac('sha256', this.#secret).update(topic).update(publicKey).update(compact(door))
    return mac.digest().subarray(0, SEAL_LENGTH)
  }
}
