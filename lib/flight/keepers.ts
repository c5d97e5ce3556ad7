import type { Digest } from '../oci/digest.ts'
import { digestKey } from '../oci/key.ts'
import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Members } from '../swarm/members.ts'
import type { Known, Peer, Router } from '../swarm/router.ts'
import type { Source } from './flight.ts'
import { Keeper } from './keeper.ts'
import { type Answer, type Ask, encode, type News, type Placing, type Question, readAnswer } from './message.ts'

export interface KeepersDependencies {
  readonly members: Pick<Members, 'closest' | 'ask'>
  readonly router: Pick<Router, 'known'>
  /** This node, as others know it. It may be a keeper of a digest itself. */
  readonly self: Peer
  readonly clock: Clock
  /** Called when a keeper says that this node waits in vain for its parent. */
  readonly onReleased: (digest: Digest) => void
}

/** How many members keep a digest. The second one is asked when the first one does not answer. */
const KEEPERS = 2
/** Milliseconds to wait for a keeper's answer. */
const KEEPER_PATIENCE = 300
/**
 * For `SILENCE_LIFE` milliseconds, a keeper that did not answer is asked last, and waited for `SILENT_PATIENCE` milliseconds only:
 * a pull has many layers.
 */
const SILENCE_LIFE = 5_000
const SILENT_PATIENCE = 100
/** Milliseconds that {@link Keepers.ask} takes at most. */
export const ASK_TIME = KEEPERS * KEEPER_PATIENCE

/** The keepers of digests: the members closest to them. This node asks and tells them, and is a keeper for others. */
export class Keepers {
  readonly #dependencies: KeepersDependencies
  readonly #keeper: Keeper
  /** By address, keepers that did not answer, and until when they are asked last. */
  readonly #silent = new Map<string, number>()
  readonly #closing = new AbortController()

  constructor(dependencies: KeepersDependencies) {
    this.#dependencies = dependencies
    this.#keeper = new Keeper(dependencies.clock)
  }

  /** How many nodes are getting something, as far as this node knows from being a keeper. */
  get kept(): number {
    return this.#keeper.size
  }

  /**
   * Asks the keepers of a digest one after the other until one answers. Before this node replaces a leader, it asks the next one
   * as well.
   */
  async ask(question: Ask, signal: AbortSignal): Promise<Placing | undefined> {
    const keepers = this.#of(question.digest)
    const isSilent = (keeper: Peer) => Number(this.#isSilent(keeper))
    let placing: Placing | undefined
    for (const keeper of keepers.sort((a, b) => isSilent(a) - isSilent(b))) {
      // A keeper that does not answer could add nothing to the first answer.
      if (signal.aborted || (placing !== undefined && this.#isSilent(keeper))) break
      const answer = await this.#askOne(keeper, question, signal)
      if (answer?.kind !== 'place') continue
      placing = answer
      // Nodes that see different members ask different keepers, so one may know what the other does not.
      if (nameOf(placing) !== 'lead' || question.not.length === 0) break
    }
    return placing
  }

  /**
   * Tells all keepers of a digest. Those that do not answer are told once more.
   *
   * @returns a better source for this node, if a keeper knows one
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

  /** Answers a member as a keeper. */
  place(question: Ask, from: Peer): Placing {
    return this.#keeper.ask(question, from, this.#known(question.digest))
  }

  /** Takes note, as a keeper, of what a member tells. */
  hear(news: News, from: Peer): Answer {
    const { members, self, onReleased } = this.#dependencies
    const { digest } = news
    const known = this.#known(digest)
    for (const peer of this.#keeper.tell(news, from, known)) {
      if (isSame(peer, self)) onReleased(digest)
      else void askMember(members, peer, { kind: 'released', digest }, this.#closing.signal)
    }
    const better = news.kind === 'arriving' ? this.#keeper.better(digest, from, known) : undefined
    if (better === undefined) return { kind: 'told' }
    const { isArriving, ...peer } = better
    return isArriving === true ? { kind: 'told', parent: peer } : { kind: 'told', holder: peer }
  }

  /** Believes a member that says that this node waits in vain, if it is a keeper of the digest. */
  released(digest: Digest, from: Peer): void {
    if (this.#of(digest).some((keeper) => isSame(keeper, from))) this.#dependencies.onReleased(digest)
  }

  /** Ends what it waits for. */
  close(): void {
    this.#closing.abort(new Error('closed'))
  }

  #known(digest: Digest): Known {
    return this.#dependencies.router.known(digestKey(digest))
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

/** What a keeper's answer means for the node that asked. */
export function nameOf({ parent, holders, mustWait }: Placing): 'follow' | 'holders' | 'lead' | 'wait' {
  if (parent !== undefined) return 'follow'
  if (holders.length > 0) return 'holders'
  return mustWait === true ? 'wait' : 'lead'
}

export function isSame(a: Peer, b: Peer): boolean {
  return a.host === b.host && a.port === b.port
}
