import { createHmac } from 'node:crypto'
import type { Key } from '../oci/key.ts'

/** Names the use of the swarm key, so that what it derives for one purpose is worth nothing for another. */
const PURPOSE = 'swarmirror/topic/1\n'

/**
 * The key of a swarm that never leaves loopback and was given none: it protects nothing, and says so by being all zeros.
 */
export const LOOPBACK_SWARM_KEY: Uint8Array = new Uint8Array(32)

/**
 * The 32-byte DHT topic of a key: HMAC-SHA256 under the swarm key. Without the swarm key nobody can compute the topic of a
 * known image, or tell what a topic stands for.
 */
export function topicOf(swarmKey: Uint8Array, key: Key): Uint8Array {
  return createHmac('sha256', swarmKey).update(PURPOSE).update(key).digest()
}
