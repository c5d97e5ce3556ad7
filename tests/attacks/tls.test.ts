/** Attacks of strangers on a peer door with TLS: endless handshakes, slow handshakes, and silent connections. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { createTlsIdentity } from '../../lib/peers/tls.ts'
import { digestOf, makeImage } from '../fixtures/image.ts'
import type { TestMirror } from '../fixtures/mirror.ts'
import { layerPath, portOf, withMirrors } from '../fixtures/mirrors.ts'
import { waitFor } from '../fixtures/wait.ts'

const KEY = new Uint8Array(32).fill(41)
const STRANGER = createTlsIdentity([new Uint8Array(32).fill(42)])
const image = makeImage({ layers: 1, layerSize: 200_000 })
const LAYER = image.contents.at(-1)?.descriptor ?? assert.fail('no layer')
/** The strangers' addresses. The door takes 128 connections from each. */
const ADDRESSES = ['127.0.0.66', '127.0.0.67', '127.0.0.68']
/**
 * How many more file descriptors a mirror may have: those connections, others that have ended and are not closed yet, and some
 * of its own. Without bounds the strangers would have 750.
 */
const MORE_DESCRIPTORS = ADDRESSES.length * 128 + 200
const PULLS = 5
const FLAGS = { 'swarm-key': Buffer.from(KEY).toString('hex'), 'lookup-timeout': '10s' }
/** The beginning of a ClientHello, whose rest never comes. */
const BEGINNING = Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03])

/** Strangers that connect again as soon as they are cut off. */
class Flood {
  /** How many connections the door has ended. */
  ended = 0
  readonly #sockets = new Set<Socket>()
  readonly #speak: (socket: Socket) => void
  #isOver = false

  /**
   * @param connections how many connections each address keeps open
   * @param speak called for each new connection, to send something
   */
  constructor(port: number, connections: number, speak: (socket: Socket) => void, addresses = ADDRESSES) {
    this.#speak = speak
    for (const address of addresses) for (let count = 0; count < connections; count++) this.#open(port, address)
  }

  end(): void {
    this.#isOver = true
    for (const socket of this.#sockets) socket.destroy()
  }

  #open(port: number, localAddress: string): void {
    const socket = connect({ host: '127.0.0.1', port, localAddress })
    this.#sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('connect', () => this.#speak(socket))
    socket.once('close', () => {
      this.#sockets.delete(socket)
      if (this.#isOver) return
      this.ended++
      // Not at once, or the test's process would have no time for anything else.
      setTimeout(() => this.#isOver || this.#open(port, localAddress), 100)
    })
  }
}

const ATTACKS: Readonly<Record<string, { readonly speak?: (socket: Socket) => void; readonly connections?: number }>> =
  {
    'nobody, as a control': {},
    'strangers that say nothing': { connections: 250, speak: (socket) => socket.resume() },
    'strangers that begin a handshake and say no more': {
      connections: 250,
      speak: (socket) => socket.resume().write(BEGINNING),
    },
    'strangers that shake hands again and again': {
      connections: 60,
      speak(plain) {
        const { cert, key } = STRANGER
        const socket = connectTls({ socket: plain, cert, key, rejectUnauthorized: false })
        socket.on('error', () => plain.destroy())
        socket.on('close', () => plain.destroy())
        socket.resume()
      },
    },
  }

/** Pulls the layer. Returns whether all of it came. */
async function pull({ registry }: TestMirror): Promise<boolean> {
  const response = await fetch(`http://${registry}${layerPath(image)}`)
  const body = new Uint8Array(await response.arrayBuffer())
  return response.status === 200 && digestOf(body) === LAYER.digest
}

for (const [who, { speak, connections = 0 }] of Object.entries(ATTACKS)) {
  test(`mirror gives its members content over TLS, and holds few descriptors, beside ${who}`, () =>
    withMirrors(async ({ start }) => {
      const holder = await start(image, FLAGS)
      const descriptors = () => readdirSync(`/proc/${holder.pid}/fd`).length
      const before = descriptors()
      const flood = speak && new Flood(portOf(holder.peer), connections, speak)
      let most = 0
      try {
        if (flood !== undefined) await waitFor('strangers are cut off', () => flood.ended > connections)
        // A new mirror, with its own connections and handshakes.
        const asker = await start(undefined, { ...FLAGS, bootstrap: holder.peer })
        await waitFor('the layer is found', () => pull(asker))
        for (let count = 0; count < PULLS; count++) {
          assert.ok(await pull(asker))
          most = Math.max(most, descriptors())
        }
      } finally {
        flood?.end()
      }
      assert.ok(most <= before + MORE_DESCRIPTORS, `${most} descriptors, and ${before} before`)
      await waitFor('all are closed again', () => descriptors() <= before + 20)
    }))
}

test('mirror keeps the connections that it has, while strangers take all new ones that its address may open', () =>
  withMirrors(async ({ start }) => {
    // Under TLS, a mirror on Deno keeps none.
    const plain = { ...FLAGS, 'peer-transfer': 'plain' }
    const holder = await start(image, plain)
    const asker = await start(undefined, { ...plain, bootstrap: holder.peer })
    await waitFor('the layer is found', () => pull(asker))
    const flood = new Flood(portOf(holder.peer), 250, (socket) => socket.resume(), ['127.0.0.1'])
    try {
      await waitFor('strangers are cut off', () => flood.ended > 250)
      for (let count = 0; count < PULLS; count++) assert.ok(await pull(asker))
    } finally {
      flood.end()
    }
  }))
