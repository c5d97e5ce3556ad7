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
  /** This node, as others know it. It may be a keeper of a digest itself. */
  readonly self: Peer
  readonly clock: Clock
  /** Called when a keeper says that this node waits in vain for its parent. */
  readonly onReleased: (digest: Digest) => void
  /** Ends what this node tells others. */
  readonly closing: AbortSignal
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
/** Milliseconds that asking all of them takes at most. */
export const ASK_TIME = KEEPERS * KEEPER_PATIENCE

/** The keepers of digests: the members closest to them. This node asks and tells them, and is a keeper for others. */
export function createKeepers({ members, router, self, clock, onReleased, closing }: KeepersDependencies) {
  const own = new Keeper(clock)
  /** By address, keepers that did not answer, and until when they are asked last. */
  const silent = new Map<string, number>()
  const keepersOf = (digest: Digest) => members.closest(digestKey(digest), KEEPERS)

  /** What a keeper answers, which may be this node itself. */
  async function answerOf(keeper: Peer, question: Ask | News, signal: AbortSignal): Promise<Answer | undefined> {
    return isSame(keeper, self) ? reply(question, self) : await askMember(members, keeper, question, signal)
  }

  async function askOne(keeper: Peer, question: Ask, signal: AbortSignal): Promise<Answer | undefined> {
    const patience = isSilent(keeper) ? SILENT_PATIENCE : KEEPER_PATIENCE
    const answer = await bounded(patience, signal, (stop) => answerOf(keeper, question, stop), clock)
    if (answer === undefined && !signal.aborted) silent.set(addressOf(keeper), clock.now() + SILENCE_LIFE)
    return answer
  }

  function isSilent(keeper: Peer): boolean {
    const now = clock.now()
    for (const [address, until] of silent) if (until < now) silent.delete(address)
    return silent.has(addressOf(keeper))
  }

  /** Answers what a member, or this node, asks or tells a keeper, and what a keeper tells this node. */
  function reply(question: Exclude<Question, { kind: 'state' }>, from: Peer): Answer {
    const { digest } = question
    if (question.kind === 'released') {
      // Only a keeper can know that this node waits in vain.
      if (keepersOf(digest).some((keeper) => isSame(keeper, from))) onReleased(digest)
      return { kind: 'told' }
    }
    const holders = router.known(digestKey(digest))
    if (question.kind === 'ask') return own.ask(question, from, holders)
    for (const peer of own.tell(question, from, holders)) {
      if (isSame(peer, self)) onReleased(digest)
      else void askMember(members, peer, { kind: 'released', digest }, closing)
    }
    const better = question.kind === 'arriving' ? own.better(digest, from, holders) : undefined
    if (better === undefined) return { kind: 'told' }
    const { isArriving, ...peer } = better
    return isArriving === true ? { kind: 'told', parent: peer } : { kind: 'told', holder: peer }
  }

  return {
    reply,

    /** How many nodes are getting something, as far as this node knows from being a keeper. */
    get kept(): number {
      return own.size
    },

    /**
     * Asks the keepers of a digest one after the other until one answers. Before this node replaces a leader, it asks the next one
     * as well.
     */
    async ask(question: Ask, signal: AbortSignal): Promise<Placing | undefined> {
      const keepers = keepersOf(question.digest)
      let placing: Placing | undefined
      for (const keeper of keepers.sort((a, b) => Number(isSilent(a)) - Number(isSilent(b)))) {
        // A keeper that does not answer could add nothing to the first answer.
        if (signal.aborted || (placing !== undefined && isSilent(keeper))) break
        const answer = await askOne(keeper, question, signal)
        if (answer?.kind !== 'place') continue
        // A leader may have given up before the second one knew of it.
        placing = { ...answer, isRefused: answer.isRefused === true || placing?.isRefused === true }
        // Nodes that see different members ask different keepers, so one may know what the other does not.
        if (nameOf(placing) !== 'lead' || question.not.length === 0) break
      }
      return placing
    },

    /**
     * Tells all keepers of a digest. Those that do not answer are told once more.
     *
     * @returns a better source for this node, if a keeper knows one
     */
    async tell(news: News): Promise<Source | undefined> {
      const answers = await Promise.all(
        keepersOf(news.digest).map(
          async (keeper) => (await answerOf(keeper, news, closing)) ?? (await answerOf(keeper, news, closing)),
        ),
      )
      for (const answer of answers) {
        if (answer?.kind !== 'told') continue
        const { parent, holder } = answer
        if (parent !== undefined) return { ...parent, isArriving: true }
        if (holder !== undefined) return holder
      }
      return undefined
    },
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
