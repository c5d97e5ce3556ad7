import type { Clock } from '../platform/clock.ts'

export interface LatenessDependencies {
  readonly clock: Clock
  /** Bytes per millisecond below which a peer is slow. */
  readonly leastRate: () => number
  /** Called repeatedly while the client waits for a silent or slow peer. */
  readonly onLate: () => void
}

/**
 * Milliseconds that a client waits for a peer in vain before the peer is late. TCP repeats a lost packet after 200 ms at least,
 * and a node without a free processor may pause as long. With a shorter time, such peers would be taken for dead.
 */
export const LATE = 300

/**
 * Watches with one timer how long a client waits for a peer. The waiting time is the peer's debt, which bytes pay off at the
 * least rate: it grows while none come, and more slowly while too few do. Time in which the client wants no bytes does not
 * count.
 */
export function createLateness({ clock, leastRate, onLate }: LatenessDependencies) {
  /** When the client began to wait for a byte, if it waits for one. */
  let wantedSince: number | undefined
  /** Since when it is the present peer's turn. */
  let turnedAt = clock.now()
  let owed = 0
  let cancelTimer: (() => void) | undefined
  const waiting = () => (wantedSince === undefined ? 0 : clock.now() - wantedSince)
  const silence = () => Math.min(waiting(), clock.now() - turnedAt)
  const debt = () => owed + silence()
  const isLate = () => debt() >= LATE

  const arm = (ms: number): void => {
    cancelTimer = clock.after(Math.ceil(ms), () => {
      cancelTimer = undefined
      // A client that rests starts the timer again when it goes on.
      if (wantedSince === undefined) return
      arm(isLate() ? LATE : LATE - debt())
      if (isLate()) onLate()
    })
  }

  return {
    /** Call this when the client wants a byte, since that time. */
    begin(since: number): void {
      wantedSince = since
      if (cancelTimer === undefined) arm(LATE - debt())
    },

    /** Call this when bytes have come. @returns milliseconds for which the client has waited for them */
    came(bytes: number): number {
      const waited = waiting()
      owed = Math.max(debt() - bytes / leastRate(), 0)
      wantedSince = undefined
      return waited
    },

    /** Call this when another piece begins. Its peer, perhaps another one, owes nothing. */
    turn(): void {
      owed = 0
      turnedAt = clock.now()
    },

    close(): void {
      wantedSince = undefined
      cancelTimer?.()
    },

    /** Milliseconds for which the client has waited for its next byte; 0 if it wants none. */
    waiting,

    /** The part of that for which the client has waited for the present peer. */
    silence,

    isLate,
  }
}
