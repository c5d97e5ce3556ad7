import type { Digest } from '../oci/digest.ts'
import { digestKey } from '../oci/key.ts'
import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Members } from '../swarm/members.ts'
import type { Peer, Router } from '../swarm/router.ts'
import type { Source } from './flight.ts'
import { Keeper } from './keeper.ts'
import { type Answer, type Ask, encode, type News, type Placing, type Question, readAnswer } from './message.ts'

export interface KeepersDependencies {
  readonly members: Pick<Members, 'closest' | 'ask'>
  readonly router: Pick<Router, 'known'>
  /** This node, as others know it. It is a keeper of some digests itself. */
  readonly self: Peer
  readonly clock: Clock
  /** Told that this node waits in vain for whoever it follows. */
  readonly onReleased: (digest: Digest) => void
}

/** How many members keep a digest: the second is asked when the first does not answer. */
const KEEPERS = 2
/** Milliseconds for which a keeper is waited for. */
const KEEPER_PATIENCE = 300
/**
 * Milliseconds for which a keeper that did not answer is asked last, and for how many milliseconds it is waited for then: a
 * pull has many layers.
 */
const SILENCE_LIFE = 5_000
const SILENT_PATIENCE = 100
/** Milliseconds that {@link Keepers.ask} takes at most. */
export const ASK_TIME = KEEPERS * KEEPER_PATIENCE

/** The keepers of digests, which are the members closest to them: this node asks and tells them, and is one of them for others. */
export class Keepers {
  readonly #dependencies: KeepersDependencies
  readonly #keeper: Keeper
  /** Keepers that did not answer, by address, and until when they are asked last. */
  readonly #silent = new Map<string, number>()
  readonly #closing = new AbortController()

  constructor(dependencies: KeepersDependencies) {
    this.#dependencies = dependencies
    this.#keeper = new Keeper(dependencies.clock)
  }

  /** How many nodes are getting something, as far as this node knows as a keeper. */
  get kept(): number {
    return this.#keeper.size
  }

  /** Asks the keepers of a digest, one after the other, until one answers; and the next one before this node replaces a leader. */
  async ask(question: Ask, signal: AbortSignal): Promise<Placing | undefined> {
    const keepers = this.#of(question.digest)
    const isSilent = (keeper: Peer) => Number(this.#isSilent(keeper))
    let placing: Placing | undefined
    for (const keeper of keepers.sort((a, b) => isSilent(a) - isSilent(b))) {
      // What the first one does not know, one that falls silent would not tell.
      if (signal.aborted || (placing !== undefined && this.#isSilent(keeper))) break
      const answer = await this.#askOne(keeper, question, signal)
      if (answer?.kind !== 'place') continue
      placing = answer
      // Members that do not know the same ones ask different keepers, and what one knows the other may not.
      if (nameOf(placing) !== 'lead' || question.not.length === 0) break
    }
    return placing
  }

  /**
   * Tells all keepers of a digest; those that do not answer are told once more.
   *
   * @returns from whom this node had better get it
   */
  async tell(news: News): Promise<Source | undefined> {
    const { members, self } = this.#dependencies
    const { signal } = this.#closing
    const answers = await Promise.all(
      this.#of(news.digest).map(async (keeper) => {
        if (isSame(keeper, self)) return this.hear(news, self)
        return (await askMember(members, keeper, news, signal)) ?? (await askMember(members, keeper, news, signal))
      }),
    )
    const told = answers.find((answer) => answer?.kind === 'told')
    if (told?.kind !== 'told') return undefined
    return told.parent === undefined ? told.holder : { ...told.parent, isArriving: true }
  }

  /** The answer of this node as a keeper. */
  place(question: Ask, from: Peer): Placing {
    return this.#keeper.ask(question, from, this.#dependencies.router.known(digestKey(question.digest)))
  }

  /** What this node is told as a keeper. */
  hear(news: News, from: Peer): Answer {
    const { members, self, onReleased } = this.#dependencies
    const { digest } = news
    for (const peer of this.#keeper.tell(news, from)) {
      if (isSame(peer, self)) onReleased(digest)
      else void askMember(members, peer, { kind: 'released', digest }, this.#closing.signal)
    }
    const better = news.kind === 'arriving' ? this.#keeper.better(digest, from) : undefined
    if (better === undefined) return { kind: 'told' }
    const { isArriving, ...peer } = better
    return isArriving === true ? { kind: 'told', parent: peer } : { kind: 'told', holder: peer }
  }

  /** A member says that this node waits in vain. Only a keeper of the digest can know. */
  released(digest: Digest, from: Peer): void {
    if (this.#of(digest).some((keeper) => isSame(keeper, from))) this.#dependencies.onReleased(digest)
  }

  /** Ends what it waits for. */
  close(): void {
    this.#closing.abort(new Error('closed'))
  }

  #of(digest: Digest): Peer[] {
    return this.#dependencies.members.closest(digestKey(digest), KEEPERS)
  }

  async #askOne(keeper: Peer, question: Ask, signal: AbortSignal): Promise<Answer | undefined> {
    const { members, self, clock } = this.#dependencies
    if (isSame(keeper, self)) return this.place(question, self)
    const patience = this.#isSilent(keeper) ? SILENT_PATIENCE : KEEPER_PATIENCE
    const answer = await bounded(patience, signal, (stop) => askMember(members, keeper, question, stop), clock)
    if (answer === undefined && !signal.aborted) this.#silent.set(addressOf(keeper), clock.now() + SILENCE_LIFE)
    return answer
  }

  #isSilent(keeper: Peer): boolean {
    const now = this.#dependencies.clock.now()
    for (const [address, until] of this.#silent) if (until < now) this.#silent.delete(address)
    return this.#silent.has(addressOf(keeper))
  }
}

/** Asks a member, and reads what it answers; `undefined` if it does not answer in time. */
export async function askMember(
  members: Pick<Members, 'ask'>,
  peer: Peer,
  question: Question,
  signal: AbortSignal,
): Promise<Answer | undefined> {
  const answer = await members.ask(peer, encode(question), signal)
  return answer && readAnswer(answer)
}

/** What an answer of a keeper comes to. */
export function nameOf({ parent, holders, mustWait }: Placing): 'follow' | 'holders' | 'lead' | 'wait' {
  if (parent !== undefined) return 'follow'
  if (holders.length > 0) return 'holders'
  return mustWait === true ? 'wait' : 'lead'
}

export function isSame(a: Peer, b: Peer): boolean {
  return a.host === b.host && a.port === b.port
}
