import { createHmac } from 'node:crypto'
import type { Key } from '../oci/key.ts'

/** The purpose of the derived value, so that it is useless for any other purpose. */
const PURPOSE = 'swarmirror/topic/1\n'

/** The key of a swarm on loopback that was given no key. It is all zeros, because it protects nothing. */
export const LOOPBACK_SWARM_KEY: Uint8Array = new Uint8Array(32)

/**
 * The 32-byte DHT topic of a key: its HMAC-SHA256 under the swarm key. Without the swarm key nobody can compute the topic of a
 * known image, or tell which key a topic belongs to.
 */
export function topicOf(swarmKey: Uint8Array, key: Key): Uint8Array {
  return createHmac('sha256', swarmKey).update(PURPOSE).update(key).digest()
}
