import { isIPv4 } from 'node:net'
import * as v from 'valibot'
import { type Digest, isDigest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import type { Peer } from '../swarm/router.ts'

/** What members ask and tell each other, as JSON in one datagram. Digests and addresses are checked when they are read. */

/** How many peers a question may name: with a sha512 digest, it still fits into `MAX_MESSAGE` bytes. */
export const MOST_NAMED = 8
/** How many peers an answer may name: it has no digest. */
export const MOST_HOLDERS = 20
/** How many followers a node may claim to have room for: with no bound, one node could draw all others to it. */
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
   * Who has it? `gives`: others may follow the asker, whose containerd is about to write it. `leads`: the asker goes upstream if
   * nobody is named. `resumes`: its containerd already has a part of it. `not`: peers that were tried, and do not give it.
   */
  v.strictObject({
    ...{ kind: v.literal('ask'), digest, gives: v.boolean(), leads: v.boolean(), resumes: v.boolean(), not: peers },
  }),
  /** It is arriving at the sender, from upstream or from `parent`, and `room` nodes can follow. A lease, to be renewed. */
  v.strictObject({ kind: v.literal('arriving'), digest, written: bytes, parent: v.optional(peer), room }),
  /** It will not come. `refused`: upstream gave no byte of it. `wrong`: the bytes did not match the digest. */
  v.strictObject({ kind: v.literal('gone'), digest, why: v.optional(v.picklist(['refused', 'wrong'])) }),
  /** A keeper says that upstream refuses it, so the receiver waits in vain. */
  v.strictObject({ kind: v.literal('released'), digest }),
  /** How far are you with it? */
  v.strictObject({ kind: v.literal('state'), digest }),
])

const ANSWER = v.variant('kind', [
  /**
   * Some holders, and how many there are; the parent to follow if that is better, and how many nodes besides the asker are getting
   * it. With neither, the asker leads. `isWhole`: nobody else needs to be asked for holders. `isRefused`: a node that went upstream
   * for it has just got no byte of it, or given it up. `mustWait`: bytes were wrong, and another node gets it anew from upstream.
   */
  v.strictObject({
    ...{ kind: v.literal('place'), holders: v.pipe(v.array(peer), v.maxLength(MOST_HOLDERS)), held: bytes },
    ...{ parent: v.optional(peer), crowd: bytes, isWhole: v.boolean(), isRefused: v.optional(v.boolean()) },
    mustWait: v.optional(v.boolean()),
  }),
  /** The keeper has heard. It may name a better parent, or a holder. */
  v.strictObject({ kind: v.literal('told'), parent: v.optional(peer), holder: v.optional(peer) }),
  /** It is being written there: the bytes so far, and the size if known. `leads`: it comes from upstream. */
  v.strictObject({ kind: v.literal('arriving'), written: bytes, size: v.optional(bytes), leads: v.boolean() }),
  /** Its containerd was sent upstream, and its turn has not come. */
  v.strictObject({ kind: v.literal('later') }),
  /** It is complete there, or it will not come there. */
  v.strictObject({ kind: v.literal('held') }),
  v.strictObject({ kind: v.literal('gone') }),
  /** The peer will know in a moment. */
  v.strictObject({ kind: v.literal('soon') }),
])

export type Question = v.InferOutput<typeof QUESTION>
export type Answer = v.InferOutput<typeof ANSWER>
export type Ask = Extract<Question, { kind: 'ask' }>
/** What a keeper is told. */
export type News = Extract<Question, { kind: 'arriving' | 'gone' }>
/** What a keeper answers to an {@link Ask}. */
export type Placing = Extract<Answer, { kind: 'place' }>

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

export function encode(message: Question | Answer): Uint8Array {
  const plain = (_: string, value: unknown) => (isAddress(value) ? addressOf(value) : value)
  return encoder.encode(JSON.stringify(message, plain))
}

/** `undefined` if it is not a question. */
export function readQuestion(message: Uint8Array): Question | undefined {
  return read(QUESTION, message)
}

/** `undefined` if it is not an answer. */
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
