/** Datagrams as an attacker sends them: over a plain socket, sealed or not. */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { createRequire } from 'node:module'
import process from 'node:process'
import HyperDHT from 'hyperdht'
import { SwarmSeal } from '../../lib/swarm/datagram-seal.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'

const HOST = '127.0.0.1'

/** A socket that knows nothing of swarms, and what came back to it. */
export class Attacker {
  readonly port: number
  /** Bytes that have come. */
  received = 0
  readonly #socket: ReturnType<typeof createSocket>

  private constructor(socket: ReturnType<typeof createSocket>) {
    this.#socket = socket
    this.port = socket.address().port
    socket.on('message', ({ length }) => {
      this.received += length
    })
  }

  static async start(): Promise<Attacker> {
    const socket = createSocket('udp4')
    await new Promise<void>((resolve) => socket.bind(0, HOST, resolve))
    return new Attacker(socket)
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

/** Seals datagrams as a member does, at a time of the attacker's choice in milliseconds since 1970. */
export function sealing(swarmKey: Uint8Array = SWARM_KEY, now?: () => number): (datagram: Uint8Array) => Buffer {
  const seal = new SwarmSeal({ swarmKeys: [swarmKey], onRefused: () => undefined, ...(now && { now }) })
  return (datagram) => {
    const sealed = seal.seal(datagram)
    const bytes = Buffer.from(sealed.bytes)
    sealed.release()
    return bytes
  }
}

/** A request of dht-rpc, version 3, that is no matter of the DHT itself: flags for a target and a value, number, address, command. */
export function request(command: number, target: Uint8Array, value: Uint8Array, number = 1): Buffer {
  const [flags, to] = [8 | 16, [127, 0, 0, 1, 0, 0]]
  // compact-encoding writes lengths up to 0xfc as one byte, and longer ones as 0xfd and two.
  const length = value.length <= 0xfc ? [value.length] : [0xfd, value.length & 0xff, value.length >> 8]
  return Buffer.from([0b11, flags, number & 0xff, number >> 8, ...to, command, ...target, ...length, ...value])
}

/** A request for a Noise handshake that a node with that public key would read. */
export function handshakeFor(publicKey: Uint8Array): Buffer {
  const NoiseWrap = createRequire(import.meta.url)('hyperdht/lib/noise-wrap.js') as new (
    ...keys: unknown[]
  ) => { readonly handshake: { send(payload: Uint8Array): Uint8Array } }
  const noise = new NoiseWrap(HyperDHT.keyPair(), publicKey).handshake.send(new Uint8Array(1))
  return request(0, HyperDHT.hash(publicKey), Uint8Array.from([0, 0, noise.length, ...noise]))
}

/** Runs `use`, and fails with what would have ended a mirror meanwhile: not every test runner takes that for a failure. */
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
