import type { PeerClient } from '../peers/client.ts'
import { PeerError } from '../peers/error.ts'
import type { Peer } from '../swarm/router.ts'

/**
 * Asks a peer for its time, in milliseconds since 1970: its door refuses who shows no capability, and tells the time with
 * the refusal as with everything.
 *
 * @returns `undefined` if it does not answer
 */
export async function timeOf(client: PeerClient, peer: Peer, signal: AbortSignal): Promise<number | undefined> {
  try {
    const reply = await client.call(peer, { method: 'HEAD', path: '/v2/', headers: {} }, signal)
    await reply.body.cancel()
    const time = Date.parse(reply.headers.get('date') ?? '')
    return Number.isNaN(time) ? undefined : time
  } catch (error) {
    if (error instanceof PeerError) return undefined
    throw error
  }
}
