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
  /** The machine's name, at most as long as a DNS name. */
  name: text(253),
  version: text(64),
  runtime: text(64),
  /** How many digests and tags the member offers. */
  held: count,
  /** How many requests its peer door is answering. */
  transfers: count,
  /** Milliseconds since its start. */
  ageMs: count,
})

const ANSWER = v.pipe(v.string(), v.parseJson(), INTRODUCTION)

/** What a member tells other members about itself. */
export type Introduction = v.InferOutput<typeof INTRODUCTION>

/** An introduction that this node has received. */
export interface Heard extends Omit<Introduction, 'ageMs'> {
  /** Milliseconds since 1970. */
  readonly startedAt: number
}

/** A member, or one that has just left the swarm. */
export interface Counted {
  readonly address: string
  /** Missing if the member has not been asked yet, or has never answered. */
  readonly told?: Heard | undefined
  /** Whether the member did not answer the last question. */
  readonly isMute: boolean
}

const LIMITS = {
  /** How many members are asked: a page cannot show all members of a large cluster. */
  members: 1_000,
  /** How many are asked at the same time. A question is one datagram, and takes a second if it is not answered. */
  parallel: 32,
  /** Milliseconds that a round of questions may take, and at least between the starts of two rounds. */
  round: 10_000,
}

/** What one member asks another: who are you? */
const QUESTION = new TextEncoder().encode('{"kind":"member"}')
/** Any fixed key, so that the closest members are always the same ones. */
const SOME_KEY = '' as Key

/**
 * Introduces this node to members that ask. A question is one datagram, because a page may ask a thousand nodes and a request
 * to a peer door would need a TLS handshake.
 *
 * @param look what there is to tell, beside the time since the start
 */
export function introducer(look: () => Omit<Introduction, 'ageMs'>): Answerer {
  const startedAt = performance.now()
  return (question) => {
    if (Buffer.compare(question, QUESTION) !== 0) return undefined
    const ageMs = Math.round(performance.now() - startedAt)
    return new TextEncoder().encode(JSON.stringify({ ...look(), ageMs }))
  }
}

/**
 * Who is in the swarm, and what each member tells about itself. Members are asked in rounds while somebody looks, some at a
 * time. A look returns what is known at that moment.
 */
export function createCensus(
  { members, clock = systemClock, log }: { members: Members; clock?: Clock; log: Logger },
  limits: Partial<typeof LIMITS> = {},
) {
  const { members: most, parallel, round } = { ...LIMITS, ...limits }
  /** By address; only members that are present. */
  let counted = new Map<string, Counted>()
  let begunAt = Number.NEGATIVE_INFINITY

  const askOne = async (peer: Peer, signal: AbortSignal) => {
    const answer = await members.ask(peer, QUESTION, signal)
    if (signal.aborted) return
    const address = addressOf(peer)
    const told = answer && read(answer)
    // A member that does not answer now keeps its last introduction.
    counted.set(address, { address, told: told ?? counted.get(address)?.told, isMute: told === undefined })
  }
  const askAll = async (peers: readonly Peer[], signal: AbortSignal) => {
    const rest = peers.values()
    const work = async () => {
      for (const peer of rest) if (!signal.aborted) await askOne(peer, signal)
    }
    await Promise.all(Array.from({ length: parallel }, work))
  }

  /** @param signal ends the round of questions */
  return (signal: AbortSignal): readonly Counted[] => {
    const peers = members.closest(SOME_KEY, most)
    counted = new Map(
      peers.map((peer) => {
        const address = addressOf(peer)
        return [address, counted.get(address) ?? { address, isMute: false }]
      }),
    )
    if (clock.now() - begunAt >= round) {
      begunAt = clock.now()
      // Unknown members come first, so that the next round goes on where a round was cut short.
      const order = peers.toSorted((a, b) => knownOf(counted.get(addressOf(a))) - knownOf(counted.get(addressOf(b))))
      bounded(round, signal, (over) => askAll(order, over)).catch((error) =>
        log.error('members cannot be asked', { error }),
      )
    }
    return [...counted.values()]
  }
}

/** `undefined` if the answer is no introduction: a member of another version may answer in another form. */
function read(answer: Uint8Array): Heard | undefined {
  const { success, output } = v.safeParse(ANSWER, new TextDecoder().decode(answer))
  if (!success) return undefined
  const { ageMs, ...told } = output
  return { ...told, startedAt: Date.now() - ageMs }
}

function knownOf(one: Counted | undefined): number {
  return one?.told === undefined && one?.isMute !== true ? 0 : 1
}
