import type { Key } from '../oci/key.ts'
import type { Peer } from './router.ts'

/** Most bytes of a question and of an answer: each is one datagram. */
export const MAX_MESSAGE = 1_024
/** Milliseconds to wait for an answer. */
export const ANSWER_TIMEOUT = 1_000

/** Answers a question of another member, in at most {@link MAX_MESSAGE} bytes; with `undefined` the member gets no answer. */
export type Answerer = (question: Uint8Array, from: Peer) => Uint8Array | undefined

/** Who is in the swarm. There is an implementation on Hyperswarm and one in memory for tests; one suite tests both. */
export interface Members {
  /** How many members this node knows, itself included. */
  readonly size: number

  /**
   * The members closest to a key, the closest first, or all of them if there are fewer than `count`. This node may be among
   * them. All nodes that know the same members and announce under the same swarm key give the same answer.
   */
  closest(key: Key, count: number): Peer[]

  /**
   * Asks a member. The question is sent only once. Only members can ask and answer.
   *
   * @param question of at most {@link MAX_MESSAGE} bytes
   * @returns the answer; `undefined` if none comes before the signal aborts or {@link ANSWER_TIMEOUT} is over
   * @throws {RangeError} if the question is too long
   */
  ask(peer: Peer, question: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined>

  /** From now on, `answerer` answers the questions of members. */
  answer(answerer: Answerer): void
}
