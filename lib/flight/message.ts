import { isIPv4 } from 'node:net'
import * as v from 'valibot'
import { type Digest, isDigest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import type { Peer } from '../swarm/router.ts'

/** What a member asks, and what it tells, in a datagram of JSON. Digests and addresses are checked as they are read. */

/** How many peers a question names at most: with a digest of sha512, it is still a datagram of `MAX_MESSAGE` bytes. */
export const MOST_NAMED = 8
/** The same of an answer, which has no digest. */
export const MOST_HOLDERS = 20
/** How many can follow a node at most: whoever says that it has more room would get all others. */
export const MOST_FOLLOWERS = 4

const digest = v.pipe(
  v.string(),
  v.check(isDigest),
  v.transform((text) => text as Digest),
)
const peer = v.pipe(v.string(), v.regex(/^\d{1,3}(?:\.\d{1,3}){3}:\d{1,5}$/), v.transform(readPeer), v.check(isPeer))
const peers = v.pipe(v.array(peer), v.maxLength(MOST_NAMED))
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const room = v.pipe(bytes, v.maxValue(MOST_FOLLOWERS))

const QUESTION = v.variant('kind', [
  /**
   * Who may have it? `gives`: others may follow the asker, whose containerd is about to write it. `leads`: it goes upstream
   * if nobody is named. `resumes`: its containerd has got some of it before. `not`: these were tried, and do not give it.
   */
  v.strictObject({
    ...{ kind: v.literal('ask'), digest, gives: v.boolean(), leads: v.boolean(), resumes: v.boolean(), not: peers },
  }),
  /** It is arriving here: from upstream, or from a parent. So many nodes can follow this one. A lease. */
  v.strictObject({ kind: v.literal('arriving'), digest, written: bytes, parent: v.optional(peer), room }),
  /** It is complete here, or will not come. */
  v.strictObject({ kind: v.literal('held'), digest }),
  /** `refused`: upstream gave no byte of it. `wrong`: what came from there or from others is something else. */
  v.strictObject({ kind: v.literal('gone'), digest, why: v.optional(v.picklist(['refused', 'wrong'])) }),
  /** A keeper says that upstream refuses it, so nobody has to wait for the node that it follows. */
  v.strictObject({ kind: v.literal('released'), digest }),
  /** How far are you with it? */
  v.strictObject({ kind: v.literal('state'), digest }),
])

const ANSWER = v.variant('kind', [
  /**
   * Some of those who have it, and how many they are; who is to be followed if that is better, and how many are getting it
   * besides the asker. Without any of them the asker leads. `isWhole`: nobody else has to be asked who has it. `isRefused`: upstream
   * has given no byte of it to a node, a moment ago. `mustWait`: bytes were wrong, and another node gets it anew from upstream.
   */
  v.strictObject({
    ...{ kind: v.literal('place'), holders: v.pipe(v.array(peer), v.maxLength(MOST_HOLDERS)), held: bytes },
    ...{ parent: v.optional(peer), crowd: bytes, isWhole: v.boolean(), isRefused: v.optional(v.boolean()) },
    mustWait: v.optional(v.boolean()),
  }),
  /** The keeper has heard, and says whom the node had better follow, or who has it by now. */
  v.strictObject({ kind: v.literal('told'), parent: v.optional(peer), holder: v.optional(peer) }),
  v.strictObject({ kind: v.literal('arriving'), written: bytes, size: v.optional(bytes), leads: v.boolean() }),
  /** It will go upstream for it when its turn has come. */
  v.strictObject({ kind: v.literal('later') }),
  v.strictObject({ kind: v.literal('held') }),
  v.strictObject({ kind: v.literal('gone') }),
  /** It will be known in a moment. */
  v.strictObject({ kind: v.literal('soon') }),
])

export type Question = v.InferOutput<typeof QUESTION>
export type Answer = v.InferOutput<typeof ANSWER>
export type Ask = Extract<Question, { kind: 'ask' }>
/** What a keeper is told. */
export type News = Extract<Question, { kind: 'arriving' | 'held' | 'gone' }>
/** What a keeper answers to an {@link Ask}. */
export type Placing = Extract<Answer, { kind: 'place' }>

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

export function encode(message: Question | Answer): Uint8Array {
  const plain = (_: string, value: unknown) => (isAddress(value) ? addressOf(value) : value)
  return encoder.encode(JSON.stringify(message, plain))
}

/** `undefined` for what is no question. */
export function readQuestion(message: Uint8Array): Question | undefined {
  return read(QUESTION, message)
}

/** `undefined` for what is no answer. */
export function readAnswer(message: Uint8Array): Answer | undefined {
  return read(ANSWER, message)
}

function read<T extends typeof QUESTION | typeof ANSWER>(schema: T, message: Uint8Array): v.InferOutput<T> | undefined {
  let json: unknown
  try {
    json = JSON.parse(decoder.decode(message))
  } catch {
    return undefined
  }
  const result = v.safeParse(schema, json)
  return result.success ? result.output : undefined
}

function readPeer(text: string): Peer {
  const [host = '', port] = text.split(':')
  return { host, port: Number(port) }
}

function isPeer({ host, port }: Peer): boolean {
  return isIPv4(host) && port > 0 && port < 65_536
}

function isAddress(value: unknown): value is Peer {
  return typeof value === 'object' && value !== null && 'host' in value && 'port' in value
}
