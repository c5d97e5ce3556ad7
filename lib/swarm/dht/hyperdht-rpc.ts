import b4a from 'b4a'
import { COMPACT_LENGTH, compact, fromCompact, type NodeAddress } from '../node.ts'
import type { DhtNode, DhtReply, DhtRpc, StoreOutcome, TopicRecord } from './rpc.ts'

export interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}

/** What a record says before it is signed, as hyperdht's own functions take it. */
export interface Announcement {
  readonly peer: { readonly publicKey: Uint8Array; readonly relayAddresses: readonly NodeAddress[] }
  readonly refresh: null
}

export type Sign = (
  topic: Uint8Array,
  token: Uint8Array,
  node: Uint8Array,
  announcement: Announcement,
  keyPair: KeyPair,
) => Uint8Array

export interface DhtRequest {
  readonly command: number
  readonly target?: Uint8Array
  readonly token?: Uint8Array
  readonly value?: Uint8Array
}

export interface DhtResponse {
  readonly from: NodeAddress & { readonly id: Uint8Array | null }
  readonly error: number
  readonly token: Uint8Array | null
  readonly closerNodes: readonly NodeAddress[] | null
  readonly value: Uint8Array | null
}

/** The parts of hyperdht that requests are made of. */
export interface DhtParts {
  /** Sends a request once. Rejects when no answer came within `timeout` milliseconds, or the DHT is being closed. */
  request(request: DhtRequest, to: NodeAddress, timeout: number): Promise<DhtResponse>
  hash(bytes: Uint8Array): Uint8Array
  signAnnounce: Sign
  signUnannounce: Sign
}

/** Commands of hyperdht. */
const LOOKUP = 3
const ANNOUNCE = 4
const UNANNOUNCE = 5
/** Of our own, far from any of hyperdht's. */
export const QUESTION = 64

const KEY_LENGTH = 32
/** hyperdht takes records of 3 addresses at most. */
const MOST_ADDRESSES = 3
/** A record with a peer and a signature, as opposed to one that refreshes another. */
const FLAGS = 0b101
/** hyperdht writes counts as one byte up to this; it answers with 20 records at most. */
const MAX_COUNT = 0xfc

/** Single requests to nodes of hyperdht, as its own queries send them. */
export function createDhtRpc(parts: DhtParts, keyPair: KeyPair): DhtRpc {
  const request = async (message: DhtRequest, to: NodeAddress, timeout: number) => {
    try {
      const response = await parts.request(message, to, timeout)
      // hyperdht takes any that has the number of the request, which strangers can guess.
      const isFromThere = response.from.host === to.host && response.from.port === to.port
      return isFromThere ? response : undefined
    } catch {
      // It times out, or the DHT is being closed: there is no other reason.
      return undefined
    }
  }
  const change = async (
    command: number,
    sign: Sign,
    relayAddresses: readonly NodeAddress[],
    to: DhtNode,
    topic: Uint8Array,
    token: Uint8Array,
    timeout: number,
  ): Promise<StoreOutcome | undefined> => {
    const peer = { publicKey: keyPair.publicKey, relayAddresses }
    const signature = sign(topic, token, to.id, { peer, refresh: null }, keyPair)
    const value = encodeRecord(peer, signature)
    const response = await request({ command, target: topic, token, value }, to, timeout)
    return response && (response.error === 0 ? 'done' : 'refused')
  }
  return {
    idOf: (address) => parts.hash(compact(address)),
    async ask(to, target, timeout): Promise<DhtReply | undefined> {
      const response = await request({ command: LOOKUP, target }, to, timeout)
      if (response === undefined) return undefined
      const { error, from, token, closerNodes, value } = response
      // Only a node with an id of its own stores records.
      const stores = error === 0 && from.id !== null && token !== null
      return {
        token: stores ? token : undefined,
        closer: closerNodes ?? [],
        records: error === 0 && value !== null ? decodeRecords(value) : [],
      }
    },
    store: (to, topic, token, relays, timeout) =>
      change(ANNOUNCE, parts.signAnnounce, relays, to, topic, token, timeout),
    remove: (to, topic, token, timeout) => change(UNANNOUNCE, parts.signUnannounce, [], to, topic, token, timeout),
    async question(to, message, timeout) {
      const response = await request({ command: QUESTION, value: message }, to, timeout)
      return response?.error === 0 && response.value !== null ? response.value : undefined
    },
  }
}

/**
 * A record to be stored or removed, in the form that hyperdht reads.
 *
 * @throws {RangeError} for more addresses than a record holds
 */
export function encodeRecord({ publicKey, relayAddresses }: TopicRecord, signature: Uint8Array): Uint8Array {
  const count = relayAddresses.length
  if (count > MOST_ADDRESSES) throw new RangeError(`expected at most ${MOST_ADDRESSES} addresses, got ${count}`)
  const addressesAt = 1 + KEY_LENGTH + 1
  const signatureAt = addressesAt + count * COMPACT_LENGTH
  const bytes = b4a.allocUnsafe(signatureAt + signature.length)
  bytes[0] = FLAGS
  bytes.set(publicKey, 1)
  bytes[addressesAt - 1] = count
  for (const [index, address] of relayAddresses.entries())
    bytes.set(compact(address), addressesAt + index * COMPACT_LENGTH)
  bytes.set(signature, signatureAt)
  return bytes
}

/** The records of an answer. Anybody may answer anything: what cannot be read ends them. */
export function decodeRecords(bytes: Uint8Array): TopicRecord[] {
  const records: TopicRecord[] = []
  const count = bytes[0] ?? 0
  if (count > MAX_COUNT) return records
  for (let at = 1; records.length < count; ) {
    const publicKey = bytes.subarray(at, at + KEY_LENGTH)
    at += KEY_LENGTH
    const addresses = bytes[at++]
    if (addresses === undefined || addresses > MAX_COUNT || at + addresses * COMPACT_LENGTH > bytes.length) break
    const relayAddresses: NodeAddress[] = []
    for (let index = 0; index < addresses; index++, at += COMPACT_LENGTH) {
      relayAddresses.push(fromCompact(bytes.subarray(at, at + COMPACT_LENGTH)))
    }
    records.push({ publicKey: Uint8Array.from(publicKey), relayAddresses })
  }
  return records
}
