/** Every time for which something counts that is known of a peer, in milliseconds, and the reason. */
export const TIMES = {
  /**
   * The first time aside, doubled with each failure in a row up to the longest. A mirror's pod that restarts is back within
   * seconds; a pull of an image asks for some ten blobs in that time.
   */
  firstAside: 1_000,
  longestAside: 30_000,
  /** Longest that a peer's own word on being busy counts: it must not put itself aside for good. */
  longestBusy: 10_000,
  /** For how long a silent peer that may only be busy comes last: longer than a rush of requests takes. */
  silentBusy: 1_000,
  /**
   * How long after its last answer or byte a silent peer is taken for busy rather than dead: longer than a body may stand
   * still by default (2 s), so that a peer that was given up is still asked for the rest if nobody else has it.
   */
  heard: 5_000,
  /**
   * How long a peer may be silent while the Hyperswarm connection to it stands. A node that is dead or stopped loses its
   * connection sooner than this; beyond it the door itself does not work because of a firewall, say.
   */
  connectedSilence: 10_000,
  /** How new an answer or a byte must be for a request to wait for a late peer. */
  signOfLife: 2_000,
  /**
   * The same for a silent peer whose Hyperswarm connection stands: a busy node's first answers to many requests come late.
   * A dead one costs that long once.
   */
  connectedWait: 5_000,
  /** How long an answer or a byte is a sign, when peers are compared, that a peer lives. */
  alive: 60_000,
  /** How long wrong content is held against a peer: disks are repaired, blobs pulled anew. */
  wrong: 10 * 60_000,
  /** The same where another peer may be to blame: kubelet's next tries come after 10, 20 and 40 s. */
  suspect: 60_000,
} as const
