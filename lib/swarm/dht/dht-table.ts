import type { NodeAddress } from '../members/bootstrap.ts'
import { decodeRecords, encodeRecord } from './record-codec.ts'
import type { StoreOutcome, SwarmTable, TableNode, TableReply } from './table.ts'

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
  readonly target: Uint8Array
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

/** The parts of hyperdht of which the table is made. */
export interface DhtParts {
  /** Sends it once. Rejects when no answer came within `timeout` milliseconds, or the DHT is being closed. */
  request(request: DhtRequest, to: NodeAddress, timeout: number): Promise<DhtResponse>
  hash(bytes: Uint8Array): Uint8Array
  signAnnounce: Sign
  signUnannounce: Sign
}

/** Of hyperdht's requests. */
const LOOKUP = 3
const ANNOUNCE = 4
const UNANNOUNCE = 5

/** Single requests to nodes of hyperdht, as its own queries send them. */
export function createDhtTable(parts: DhtParts, keyPair: KeyPair): SwarmTable {
  const request = async (message: DhtRequest, to: NodeAddress, timeout: number) => {
    try {
      const response = await parts.request(message, to, timeout)
      // Hyperdht takes any that has the number of the request, which strangers can guess.
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
    to: TableNode,
    topic: Uint8Array,
    token: Uint8Array,
    timeout: number,
  ): Promise<StoreOutcome> => {
    const peer = { publicKey: keyPair.publicKey, relayAddresses }
    const signature = sign(topic, token, to.id, { peer, refresh: null }, keyPair)
    const value = encodeRecord(peer, signature)
    const response = await request({ command, target: topic, token, value }, to, timeout)
    if (response === undefined) return 'silent'
    return response.error === 0 ? 'done' : 'refused'
  }
  return {
    idOf({ host, port }) {
      const bytes = Buffer.allocUnsafe(6)
      bytes.set(host.split('.').map(Number))
      bytes.writeUInt16LE(port, 4)
      return parts.hash(bytes)
    },
    async ask(to, target, timeout): Promise<TableReply | undefined> {
      const response = await request({ command: LOOKUP, target }, to, timeout)
      if (response === undefined) return undefined
      const { error, from, token, closerNodes, value } = response
      // Only a node with an id of its own stores: others are visitors.
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
  }
}
