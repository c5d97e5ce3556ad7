import { rule } from '../containerd/rule.ts'
import type { PeerClient } from '../peers/client.ts'
import { PeerError } from '../peers/error.ts'
import type { Peer } from '../swarm/router.ts'

/** How far two clocks may differ before nodes refuse each other's capabilities, in milliseconds (see lib/peers). */
const TOLERANCE = 60_000
/** A Date header counts whole seconds, and the answer takes time: a smaller difference says nothing, in milliseconds. */
const RESOLUTION = 2_000

/**
 * Asks a peer for its time, in milliseconds since 1970: its door refuses a request without a capability, and tells the
 * time with every answer.
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

/** Asks another node for its time, as milliseconds since 1970; `undefined` if it does not answer. */
export type AskTime = (signal: AbortSignal) => Promise<number | undefined>

export interface ClockDifferences {
  /** How many nodes were asked. */
  readonly asked: number
  /** How far this machine's clock is ahead of that of each node that answered, in milliseconds, sorted. */
  readonly ahead: readonly number[]
}

/**
 * Compares this machine's clock with those of other nodes.
 *
 * @throws the signal's reason
 */
export async function compareClocks(peers: readonly AskTime[], signal: AbortSignal): Promise<ClockDifferences> {
  const answers = await Promise.all(
    peers.map(async (ask) => {
      const time = await ask(signal)
      return time === undefined ? [] : [Date.now() - time]
    }),
  )
  signal.throwIfAborted()
  return { asked: peers.length, ahead: answers.flat().sort((a, b) => a - b) }
}

export const CLOCK = rule({
  id: 'clock',
  reads: (differences: ClockDifferences) => differences,
  judges({ asked, ahead }) {
    // The middle one, so that a single wrong clock among the others does not count.
    const median = ahead[Math.floor(ahead.length / 2)]
    if (median === undefined) {
      const reason = asked === 0 ? 'no other node is known' : 'no other node answers'
      return { severity: 'unknown', seen: `there was no clock to compare with: ${reason}` }
    }
    const nodes = `${ahead.length} other node${ahead.length === 1 ? '' : 's'}`
    const apart = Math.abs(median)
    if (apart <= RESOLUTION) return { severity: 'ok', seen: `the clock is that of ${nodes}` }
    const seen = `the clock is ${Math.round(apart / 1000)} s ${median > 0 ? 'ahead of' : 'behind'} that of ${nodes}`
    if (apart < TOLERANCE / 2) return { severity: 'ok', seen }
    // Never an error: nobody can tell from here which clock is wrong, and after a boot it is soon set right.
    return { severity: 'warning', seen, remedy: { text: 'synchronise the clocks of all nodes (NTP)' } }
  },
  expected: `clocks of all nodes within ${TOLERANCE / 1000} s`,
  why: 'a capability is good for a minute: nodes whose clocks differ by more refuse each other’s requests',
})
