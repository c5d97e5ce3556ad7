/** How long each fact about a peer counts, in milliseconds, and why. */
export const TIMES = {
  /**
   * The first time aside, which doubles with each failure in a row, up to the longest. A mirror's pod that restarts is back
   * within seconds, in which a pull asks for some ten blobs.
   */
  firstAside: 1_000,
  longestAside: 30_000,
  /** The longest time for which a peer may say that it is busy, because it must not put itself aside for good. */
  longestBusy: 10_000,
  /** How long a silent peer that may only be busy comes last: longer than a rush of requests. */
  silentBusy: 1_000,
  /**
   * How long after its last answer or byte a silent peer counts as busy and not as dead. It is longer than a body may stand
   * still by default (2 s), so that a peer that was given up is still asked for the rest if nobody else has it.
   */
  heard: 5_000,
  /**
   * How long a peer may be silent while its Hyperswarm connection stands. A node that is dead or stopped loses its connection
   * sooner. After this time its door itself does not work, perhaps because of a firewall.
   */
  connectedSilence: 10_000,
  /** How recent an answer or a byte must be for a request to wait for a late peer. */
  signOfLife: 2_000,
  /**
   * How long a request waits for a silent peer whose Hyperswarm connection stands, because a busy node's first answers to many
   * requests come late. A dead node costs this time once.
   */
  connectedWait: 5_000,
  /** How long an answer or a byte shows, when peers are compared, that a peer is alive. */
  alive: 60_000,
  /** How long wrong content counts against a peer. Disks are repaired, and blobs are pulled again. */
  wrong: 10 * 60_000,
  /** The same if another peer may be to blame: the kubelet tries again after 10, 20 and 40 s. */
  suspect: 60_000,
} as const
