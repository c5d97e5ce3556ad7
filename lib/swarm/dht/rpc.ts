import b4a from 'b4a'
import { COMPACT_LENGTH, compact, fromCompact, type NodeAddress } from '../node.ts'
import type { RecordStore } from './record-store.ts'

/** A node of the DHT. Its id, of 32 bytes, is a hash of its address, so a node cannot choose its place in the key space. */
export interface DhtNode extends NodeAddress {
  readonly id: Uint8Array
}

/** The most records of a topic in an answer, chosen at random. */
export const MOST_ANSWERED = 20

export interface DhtReply {
  /** Another number after each start of the node, which has then forgotten what it kept. */
  readonly run: number
  /** A token that allows this node to store any topic at the node that gave it. A node that stores nothing gives none. */
  readonly token: Uint8Array | undefined
  /** Nodes close to the target that the answering node knows. */
  readonly closer: readonly NodeAddress[]
  /** The nodes that announced the target, by the addresses of their datagrams, which are those of their peer doors. */
  readonly records: readonly NodeAddress[]
  /** Whether the node has no room for more records of the target, so that others may be elsewhere. */
  readonly isFull: boolean
  /** Whether the node has all records of the target, so that no other node has to be asked. */
  readonly isWhole: boolean
}

/** The most topics of one request to store or remove: with them it still fits into one packet everywhere. */
export const MOST_TOPICS = 32

/** Up to {@link MOST_TOPICS}. */
export type Topics = readonly Uint8Array[]

/** The indexes of the topics of a request for which a node has no room. */
export type Refused = readonly number[]

/** The outcome of a request to store or remove. `refused`: the node answered with an error, because the token is no longer good. */
export type StoreOutcome = Refused | 'refused'

/** The answer of a node to a lookup of a topic. */
type Kept = Pick<DhtReply, 'run' | 'records' | 'isFull' | 'isWhole'>

/**
 * Our own commands, with numbers far from hyperdht's. hyperdht's announcements are signed and name the announcer's addresses.
 * Ours need neither: only members can send them, and a record's address is the sender's, which the token has verified.
 */
export const QUESTION = 64
export const LOOKUP = 65
export const ANNOUNCE = 66
export const WITHDRAW = 67
export const IDENTIFY = 68

const KEY_LENGTH = 32
const TOPIC_LENGTH = 32
/** Bits in the first byte of an answer to a lookup. */
const [FULL_BIT, WHOLE_BIT] = [1, 2]
/** Bytes of an answer to a lookup before the records: the bits, and the run. */
const HEAD_LENGTH = 5

export interface DhtRequest {
  readonly command: number
  readonly target?: Uint8Array
  readonly token?: Uint8Array
  readonly value?: Uint8Array
}

export interface DhtResponse {
  readonly from: NodeAddress & { readonly id: Uint8Array | null }
  /** The address at which that node has seen this one. */
  readonly to: NodeAddress
  readonly error: number
  readonly token: Uint8Array | null
  readonly closerNodes: readonly NodeAddress[] | null
  readonly value: Uint8Array | null
}

/** A request of another node. If it has a token, the token is right, because hyperdht refuses wrong ones. */
export interface IncomingRequest extends Pick<DhtResponse, 'from' | 'token' | 'value'> {
  readonly command: number
  readonly target: Uint8Array | null
  reply(value: Uint8Array | null, options?: { readonly token: boolean; readonly closerNodes: boolean }): void
}

/** The functions of hyperdht that requests need. */
export interface DhtParts {
  /** Sends a request once. Rejects if no answer comes within `timeout` milliseconds, or if the DHT is being closed. */
  request(request: DhtRequest, to: NodeAddress, timeout: number): Promise<DhtResponse>
  hash(bytes: Uint8Array): Uint8Array
  /** Called with the address at which another node has seen this one. */
  seen?(address: NodeAddress, by: NodeAddress): void
}

/**
 * Requests to single nodes of the DHT: one request, one answer, and nothing is sent twice. They never reject, and resolve to
 * `undefined` if no answer comes within `timeout` milliseconds.
 */
export type DhtRpc = ReturnType<typeof createDhtRpc>

export function createDhtRpc(parts: DhtParts) {
  const request = async (message: DhtRequest, to: NodeAddress, timeout: number) => {
    try {
      const response = await parts.request(message, to, timeout)
      // hyperdht accepts any answer with the number of the request, which other members can guess.
      const isFromThere = response.from.host === to.host && response.from.port === to.port
      if (!isFromThere) return undefined
      parts.seen?.(response.to, to)
      return response
    } catch {
      // It has timed out, or the DHT is being closed; there is no other reason.
      return undefined
    }
  }
  const change =
    (command: number) =>
    async (to: NodeAddress, topics: Topics, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined> => {
      const response = await request({ command, token, value: b4a.concat([...topics]) }, to, timeout)
      if (response === undefined) return undefined
      if (response.error !== 0) return 'refused'
      return [...topics.keys()].filter((index) => response.value?.includes(index))
    }
  const valueFrom = async (message: DhtRequest, to: NodeAddress, timeout: number) => {
    const response = await request(message, to, timeout)
    return response?.error === 0 && response.value !== null ? response.value : undefined
  }
  return {
    nodeAt: ({ host, port }: NodeAddress): DhtNode => ({ host, port, id: parts.hash(compact({ host, port })) }),

    /** Asks what a node knows about the target. */
    async ask(to: NodeAddress, target: Uint8Array, timeout: number): Promise<DhtReply | undefined> {
      const response = await request({ command: LOOKUP, target }, to, timeout)
      if (response === undefined) return undefined
      const { error, from, token, closerNodes, value } = response
      // Only a node with an id stores records.
      const stores = error === 0 && from.id !== null && token !== null
      return {
        token: stores ? token : undefined,
        closer: closerNodes ?? [],
        ...decodeRecords(error === 0 && value !== null ? value : new Uint8Array()),
      }
    },

    /** Stores this node's records of some topics. */
    store: change(ANNOUNCE),

    /** Removes these records. */
    remove: change(WITHDRAW),

    /** The public key of the node's Hyperswarm connections. */
    async identify(to: NodeAddress, timeout: number): Promise<Uint8Array | undefined> {
      const publicKey = await valueFrom({ command: IDENTIFY }, to, timeout)
      return publicKey?.length === KEY_LENGTH ? publicKey : undefined
    },

    /** Sends one of our own messages, and returns the node's answer. */
    question: (to: NodeAddress, message: Uint8Array, timeout: number): Promise<Uint8Array | undefined> =>
      valueFrom({ command: QUESTION, value: message }, to, timeout),
  }
}

/**
 * Answers other nodes that look up, announce or withdraw topics here, or ask for the public key.
 *
 * @param isWhole whether this node has all records of a topic
 * @returns false if a request is none of these; it is not answered then
 */
export function answerFrom(
  records: RecordStore,
  publicKey: Uint8Array,
  request: IncomingRequest,
  isWhole: (topic: Uint8Array) => boolean,
): boolean {
  const { command, target, token, value, from } = request
  const only = { token: false, closerNodes: false }
  if (command === IDENTIFY) {
    request.reply(publicKey, only)
    return true
  }
  if (command === LOOKUP) {
    if (target === null) return false
    const found = records.get(target, MOST_ANSWERED)
    const isFull = records.isFull(target)
    request.reply(encodeRecords(found, { run: records.run, isFull, isWhole: isWhole(target) }))
    return true
  }
  const topics = token === null || value === null ? [] : topicsIn(value)
  if (topics.length === 0 || (command !== ANNOUNCE && command !== WITHDRAW)) return false
  const address = compact(from)
  if (command === WITHDRAW) {
    for (const topic of topics) records.remove(topic, address)
    request.reply(null, only)
  } else {
    // The indexes of the topics for which there is no room.
    const full = [...topics.keys()].filter((index) => !records.add(topics[index] as Uint8Array, address))
    request.reply(Uint8Array.from(full), only)
  }
  return true
}

/** The topics of a request, one after another in its value; none if the value is anything else. */
function topicsIn(value: Uint8Array): Uint8Array[] {
  const isRight = value.length % TOPIC_LENGTH === 0 && value.length <= MOST_TOPICS * TOPIC_LENGTH
  return isRight ? partsOf(value, TOPIC_LENGTH) : []
}

/** The parts of that length, one after another, without a shorter rest. */
function partsOf(bytes: Uint8Array, length: number): Uint8Array[] {
  const count = Math.floor(bytes.length / length)
  return Array.from({ length: count }, (_, at) => bytes.subarray(at * length, (at + 1) * length))
}

/**
 * Encodes the answer to a lookup: a byte with bits that say whether there may be more, the run, and the compact addresses of
 * the records.
 */
export function encodeRecords(
  records: readonly Uint8Array[],
  { run, isFull, isWhole }: Pick<Kept, 'run' | 'isFull' | 'isWhole'>,
): Uint8Array {
  const head = b4a.alloc(HEAD_LENGTH)
  head[0] = Number(isFull) * FULL_BIT + Number(isWhole) * WHOLE_BIT
  b4a.writeUInt32LE(head, run, 1)
  return b4a.concat([head, ...records])
}

/** Reads the answer to a lookup. A member may send anything, so bytes that cannot be an address are left out. */
export function decodeRecords(bytes: Uint8Array): Kept {
  if (bytes.length < HEAD_LENGTH) return { run: 0, records: [], isFull: false, isWhole: false }
  const [flags = 0] = bytes
  const run = b4a.readUInt32LE(bytes, 1)
  const addresses = bytes.subarray(HEAD_LENGTH, HEAD_LENGTH + MOST_ANSWERED * COMPACT_LENGTH)
  const records = partsOf(addresses, COMPACT_LENGTH)
    .map(fromCompact)
    .filter(({ port }) => port > 0)
  return { run, records, isFull: (flags & FULL_BIT) !== 0, isWhole: (flags & WHOLE_BIT) !== 0 }
}
