import * as v from 'valibot'
import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { type Clock, systemClock } from '../platform/clock.ts'
import type { Answerer, Members } from '../swarm/members.ts'
import type { Peer } from '../swarm/router.ts'

const text = (longest: number) => v.pipe(v.string(), v.minLength(1), v.maxLength(longest))
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const INTRODUCTION = v.strictObject({
  /** Of the machine, at most as long as a name in the DNS may be. */
  name: text(253),
  version: text(64),
  runtime: text(64),
  /** Digests and tags that it offers. */
  held: count,
  /** Requests that its peer door is answering. */
  transfers: count,
  /** Milliseconds since its start. */
  ageMs: count,
})

const ANSWER = v.pipe(v.string(), v.parseJson(), INTRODUCTION)

/** What a member tells of itself to another one. */
export type Introduction = v.InferOutput<typeof INTRODUCTION>

/** What a member has told, as of some time. */
export interface Heard extends Omit<Introduction, 'ageMs'> {
  /** Milliseconds since 1970. */
  readonly startedAt: number
}

/** A member, or one that has just left. */
export interface Counted {
  readonly address: string
  /** Missing if it was not asked yet, or has never answered. */
  readonly told?: Heard | undefined
  /** Whether it left the last question unanswered. */
  readonly isMute: boolean
}

const LIMITS = {
  /** Members that are asked: those of a large cluster fit on no page. */
  members: 1_000,
  /** How many are asked at the same time. A question is a datagram, and takes a second if it is not answered. */
  parallel: 32,
  /** Milliseconds that a round of questions may take, and from the start of one to the next at least. */
  round: 10_000,
}

/** What one member asks another: who are you? */
const QUESTION = new TextEncoder().encode('{"kind":"member"}')
/** Any key: the members closest to it are always the same ones. */
const SOME_KEY = '' as Key

/**
 * Lets this node introduce itself to members that ask. It needs a datagram, where a request to a peer door needs a TLS
 * handshake: a page may ask a thousand nodes.
 *
 * @returns the members, whose other questions can be answered as before
 */
export function introducing(members: Members, introduce: () => Introduction): Members {
  const own: Answerer = (question) => {
    const isAsked = question.length === QUESTION.length && QUESTION.every((byte, at) => byte === question[at])
    return isAsked ? new TextEncoder().encode(JSON.stringify(introduce())) : undefined
  }
  members.answer(own)
  return {
    get size() {
      return members.size
    },
    closest: (key, count) => members.closest(key, count),
    ask: (peer, question, signal) => members.ask(peer, question, signal),
    answer: (other) => members.answer((question, from) => own(question, from) ?? other(question, from)),
  }
}

/**
 * Who is in the swarm and what each tells of itself. Members are asked while somebody looks, some at a time and in rounds: a
 * look gives what is known then.
 */
export function createCensus(
  { members, clock = systemClock, log }: { members: Members; clock?: Clock; log: Logger },
  limits: Partial<typeof LIMITS> = {},
) {
  const { members: most, parallel, round } = { ...LIMITS, ...limits }
  /** By address, of the present members only. */
  let counted = new Map<string, Counted>()
  let isAsking = false
  let begunAt = Number.NEGATIVE_INFINITY

  const askOne = async (peer: Peer, signal: AbortSignal) => {
    const answer = await members.ask(peer, QUESTION, signal)
    if (signal.aborted) return
    const address = addressOf(peer)
    const told = answer && read(answer)
    // Who does not answer now is still who it was.
    counted.set(address, { address, told: told ?? counted.get(address)?.told, isMute: told === undefined })
  }
  const askAll = async (peers: readonly Peer[], signal: AbortSignal) => {
    const rest = peers.values()
    const work = async () => {
      for (const peer of rest) {
        if (signal.aborted) return
        await askOne(peer, signal)
      }
    }
    await Promise.all(Array.from({ length: parallel }, work))
  }

  /** @param signal ends the questions */
  return (signal: AbortSignal): readonly Counted[] => {
    const peers = members.closest(SOME_KEY, most)
    counted = new Map(
      peers.map((peer) => {
        const address = addressOf(peer)
        return [address, counted.get(address) ?? { address, isMute: false }]
      }),
    )
    if (!isAsking && clock.now() - begunAt >= round) {
      isAsking = true
      begunAt = clock.now()
      // Those of whom nothing is known first, so that a round that is cut short goes on with the next one.
      const order = peers.toSorted((a, b) => knownOf(counted.get(addressOf(a))) - knownOf(counted.get(addressOf(b))))
      void bounded(round, signal, (over) => askAll(order, over))
        .catch((error) => log.error('members cannot be asked', { error }))
        .finally(() => {
          isAsking = false
        })
    }
    return [...counted.values()]
  }
}

/** `undefined` for what is no introduction: a member of another version may tell other things. */
function read(answer: Uint8Array): Heard | undefined {
  const { success, output } = v.safeParse(ANSWER, new TextDecoder().decode(answer))
  if (!success) return undefined
  const { ageMs, ...told } = output
  return { ...told, startedAt: Date.now() - ageMs }
}

function knownOf(one: Counted | undefined): number {
  return one?.told === undefined && one?.isMute !== true ? 0 : 1
}
