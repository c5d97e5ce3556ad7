import type { Key } from '../oci/key.ts'
import type { Peer } from './router.ts'

/** Bytes of a question, and of an answer, at most: each is one datagram. */
export const MAX_MESSAGE = 1_024
/** Milliseconds to wait for an answer at most. */
export const ANSWER_TIMEOUT = 1_000

/** Answers a question of another member, in at most {@link MAX_MESSAGE} bytes; for `undefined` the other side gets none. */
export type Answerer = (question: Uint8Array, from: Peer) => Uint8Array | undefined

/** Who is in the swarm. One implementation on Hyperswarm, one in memory for tests, one suite for both. */
export interface Members {
  /** How many members this node knows, itself included. */
  readonly size: number

  /**
   * The members closest to a key, the closest first; fewer than `count` where there are not as many. This node may be among
   * them. All nodes that know the same members, and announce under the same swarm key, give the same answer.
   */
  closest(key: Key, count: number): Peer[]

  /**
   * Asks a member. The question is sent once, and only members can ask or answer.
   *
   * @param question of at most {@link MAX_MESSAGE} bytes
   * @returns the answer; `undefined` if there is none before the signal aborts, or {@link ANSWER_TIMEOUT} is over
   * @throws {RangeError} for a question that is too long
   */
  ask(peer: Peer, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined>

  /** Lets `answerer` answer the questions of members from now on. */
  answer(answerer: Answerer): void
}
