import type { Readiness } from '../../observe/readiness.ts'
import { addressOf } from '../../platform/address.ts'
import type { Clock } from '../../platform/clock.ts'
import type { NodeAddress } from '../node.ts'

/** Milliseconds for which the word of a node that sees this one at its own address counts. All nodes are asked more often. */
const RIGHT_LIFE = 60_000

/**
 * Compares the address that this node announces with the one at which others see it, as each answer says. Capabilities are good
 * for the announced address only, and others ask at the one that they see, so a node for which the two differ gives nothing.
 * As long as any node says that they are the same, the node is ready, so that a member that lies cannot change that.
 */
export function createSeenAddress(self: NodeAddress, readiness: Readiness, clock: Pick<Clock, 'now'>) {
  const misplaced = readiness.wait()
  const isOwn = ({ host, port }: NodeAddress) => host === self.host && port === self.port
  let rightAt = Number.NEGATIVE_INFINITY

  /** Call this when the node `by` has seen this node at `address`. */
  return (address: NodeAddress, by: NodeAddress): void => {
    // What this node sends to itself takes another way.
    if (isOwn(by)) return
    const now = clock.now()
    if (isOwn(address)) {
      rightAt = now
      if (misplaced.reasons.length > 0) misplaced.over()
    } else if (now - rightAt > RIGHT_LIFE) {
      misplaced.for(
        `others see this node at ${addressOf(address)}, but it announces ${addressOf(self)} (--advertise-host): they can get nothing from it`,
      )
    }
  }
}
