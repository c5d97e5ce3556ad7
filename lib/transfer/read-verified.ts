import { PeerError } from '../peers/error.ts'
import type { Clock } from '../platform/clock.ts'
import type { Opened, Transfer } from './transfer.ts'
import { VerificationError, verify } from './verify.ts'
import { readWhole } from './whole.ts'

/**
 * How long one peer has for what is read whole, in milliseconds: a client waits for all of it, and nobody can take over in
 * the middle. The largest manifest needs a second at 4 MB/s; usual ones have a few KiB.
 */
const WHOLE_TIMEOUT = 5_000

/**
 * Reads a small body and verifies it.
 *
 * @param limit bytes that it may have
 * @returns `undefined` when it breaks off or is wrong, and another peer must be asked
 * @throws the signal's reason
 */
export async function readVerified(
  transfer: Transfer,
  opened: Opened,
  limit: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const { descriptor } = opened.head
  const watched = transfer.watch(opened)
  const body = { next: () => watched.watchdog.next(), cancel: () => watched.body.cancel() }
  try {
    const bytes = await readWhole(body, descriptor.size, { limit, timeout: WHOLE_TIMEOUT }, clock, signal)
    transfer.took(bytes.length, [opened.peer])
    verify(bytes, descriptor.digest)
    return bytes
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof VerificationError) transfer.blame(descriptor, [opened.peer])
    else if (error instanceof PeerError) {
      // One that drips must not be as dear as others to the next transfer.
      transfer.moved(watched)
      transfer.broke(watched, error)
    } else throw error
    return undefined
  }
}
