/** Datagrams of an attacker, over a plain socket, sealed or not. */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { createRequire } from 'node:module'
import process from 'node:process'
import HyperDHT from 'hyperdht'
import { silentLogger } from '../../lib/observe/log.ts'
import { createSwarmSeal } from '../../lib/swarm/datagram-seal.ts'
import { compact, type NodeAddress } from '../../lib/swarm/node.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'

const HOST = '127.0.0.1'

/** A socket that knows nothing about swarms, and the bytes that it receives. */
export class Attacker {
  readonly address: NodeAddress
  /** How many bytes have come. */
  received = 0
  readonly #socket: ReturnType<typeof createSocket>

  private constructor(socket: ReturnType<typeof createSocket>, host: string) {
    this.#socket = socket
    this.address = { host, port: socket.address().port }
    socket.on('message', ({ length }) => {
      this.received += length
    })
  }

  /** @throws the system's error if the port is taken; port 0 means any free port */
  static async start(host = HOST, port = 0): Promise<Attacker> {
    const socket = createSocket('udp4')
    await new Promise<void>((resolve, reject) => {
      socket.once('error', (error) => socket.close(() => reject(error)))
      socket.bind({ port, address: host, exclusive: true }, resolve)
    })
    return new Attacker(socket, host)
  }

  /** Resolves when the system has taken the datagram. */
  send(bytes: Uint8Array, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.send(bytes, port, HOST, (error) => (error ? reject(error) : resolve()))
    })
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#socket.close(() => resolve()))
  }
}

/** Runs `use` with `count` attackers, each on its own port, and closes them. */
export async function withAttackers(count: number, use: (...attackers: Attacker[]) => Promise<void>): Promise<void> {
  const attackers = await Promise.all(Array.from({ length: count }, () => Attacker.start()))
  try {
    await use(...attackers)
  } finally {
    await Promise.all(attackers.map((attacker) => attacker.close()))
  }
}

/** Seals datagrams like a member, at any time in milliseconds since 1970. */
export function sealing(swarmKey: Uint8Array = SWARM_KEY, now?: () => number): (datagram: Uint8Array) => Buffer {
  const seal = createSwarmSeal(silentLogger, [swarmKey], now)
  return (datagram) => Buffer.from(seal.seal(datagram))
}

export interface RequestOptions {
  /** Number of the request. */
  readonly number?: number
  /** The id of the sending node, which makes others remember the node. */
  readonly id?: Uint8Array
  readonly token?: Uint8Array
}

/**
 * A request of dht-rpc, version 3, with a command beyond the DHT's own ones: flags, number, address, and then the fields that
 * the flags announce.
 */
export function request(
  command: number,
  target: Uint8Array,
  value: Uint8Array,
  { number = 1, id, token }: RequestOptions = {},
): Buffer {
  const [flags, to] = [(id ? 1 : 0) | (token ? 2 : 0) | 8 | 16, [127, 0, 0, 1, 0, 0]]
  // compact-encoding writes lengths up to 0xfc as one byte, and longer ones as 0xfd and two.
  const length = value.length <= 0xfc ? [value.length] : [0xfd, value.length & 0xff, value.length >> 8]
  const head = [0b11, flags, number & 0xff, number >> 8, ...to, ...(id ?? []), ...(token ?? [])]
  return Buffer.from([...head, command, ...target, ...length, ...value])
}

/** An answer of dht-rpc with a value, to the request with that number. */
export function answer(number: number, value: Uint8Array): Buffer {
  return Buffer.from([0b0001_0011, 16, number & 0xff, number >> 8, 127, 0, 0, 1, 0, 0, value.length, ...value])
}

/** The id of the node at that address. */
export function idAt(address: NodeAddress): Uint8Array {
  return HyperDHT.hash(compact(address))
}

/**
 * A request for a Noise handshake that a node with that public key would read. `third`: the address that it gives for the
 * client and for the relay. `mode`: the step of relaying at which it claims to be.
 */
export function handshakeFor(publicKey: Uint8Array, third?: NodeAddress, mode = 0): Buffer {
  const NoiseWrap = createRequire(import.meta.url)('hyperdht/lib/noise-wrap.js') as new (
    ...keys: unknown[]
  ) => { readonly handshake: { send(payload: Uint8Array): Uint8Array } }
  const noise = new NoiseWrap(HyperDHT.keyPair(), publicKey).handshake.send(new Uint8Array(1))
  const named = third === undefined ? [] : [...compact(third), ...compact(third)]
  const value = [third === undefined ? 0 : 3, mode, noise.length, ...noise, ...named]
  return request(0, HyperDHT.hash(publicKey), Uint8Array.from(value))
}

/** Runs `use`, and fails with any error that would have ended a mirror meanwhile, because not every test runner fails then. */
export async function withoutFatalErrors(use: () => Promise<void>): Promise<void> {
  const fatal: unknown[] = []
  const note = (error: unknown) => fatal.push(error)
  process.on('uncaughtException', note).on('unhandledRejection', note)
  try {
    await use()
  } finally {
    process.off('uncaughtException', note).off('unhandledRejection', note)
  }
  assert.deepEqual(fatal, [])
}
