// One peer in a process of its own, on any runtime, over the addon or lib/udx. Reads commands as JSON lines, answers each with one.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { runtimeBackend, UDX } from '../../../../lib/udx/index.ts'
import { createFaultyBackend, type Faults } from './faulty-backend.ts'
import { type AnySocket, addon, type Dht, HyperDHT, type NoiseStream } from './hyperdht.ts'
import { createMutator } from './mutator.ts'

/** What a worker can be told. Keys and topics are in hex, times in milliseconds. */
export type Command =
  | {
      do: 'start'
      implementation: 'addon' | 'lib'
      loss?: number
      seed?: number
      mutate?: number
      bootstrap?: number
    }
  /** Changes the share of datagrams that are dropped, in both directions. Only over lib/udx. */
  | { do: 'lose'; share: number }
  | { do: 'listen' }
  | { do: 'announce'; topics: string[] }
  | { do: 'lookup'; topics: string[] }
  | { do: 'transfer'; publicKey: string; direction: 'up' | 'down'; bytes: number }
  | { do: 'parallel'; publicKey: string; streams: number; bytes: number }
  /** Waits until so many bytes have come from other peers. */
  | { do: 'receive'; bytes: number }
  | { do: 'stop' }

export interface Answer {
  ok: boolean
  error?: string
  code?: string
  port?: number
  publicKey?: string
  found?: number
  /** How long it took. */
  ms?: number
  mutated?: number
}

const HOST = '127.0.0.1'
const CHUNK = 64 * 1024
const PATTERN = Buffer.alloc(CHUNK, 'a block of bytes that is the same at both ends; ')

let dht: Dht | undefined
let udx: { createSocket(): AnySocket } | undefined
let stopped = false
let faults: Faults | undefined
let mutated: () => number = () => 0
/** Bytes of all transfers. */
let received = 0

/** The bytes of a transfer: chunks with their offset in front, so that each is in its place or the digest is wrong. */
function chunkAt(offset: number, end: number): Buffer {
  const chunk = Buffer.from(PATTERN.subarray(0, Math.min(CHUNK, end - offset)))
  if (chunk.length >= 8) chunk.writeDoubleLE(offset, 0)
  return chunk
}

async function sendBytes(stream: NoiseStream, bytes: number): Promise<string> {
  const hash = createHash('sha256')
  for (let offset = 0; offset < bytes; offset += CHUNK) {
    const chunk = chunkAt(offset, bytes)
    hash.update(chunk)
    if (!stream.write(chunk)) await new Promise<void>((resolve, reject) => waitFor(stream, 'drain', resolve, reject))
  }
  return hash.digest('hex')
}

function waitFor(stream: NoiseStream, event: string, resolve: () => void, reject: (error: Error) => void): void {
  const done = () => {
    stream.off('close', onClose)
    stream.off(event, onEvent)
  }
  const onEvent = () => {
    done()
    resolve()
  }
  const onClose = () => {
    done()
    reject(failures.get(stream) ?? new Error('closed too early'))
  }
  stream.on(event, onEvent)
  stream.on('close', onClose)
}

const failures = new WeakMap<NoiseStream, Error>()

/** Reads messages: the first is the request or the answer, the others are bytes. */
function read(stream: NoiseStream): {
  bytes: number
  digest: () => string
  first: Promise<string>
  end: Promise<void>
} {
  const hash = createHash('sha256')
  let onFirst: ((text: string) => void) | undefined
  const state = {
    bytes: 0,
    digest: () => hash.digest('hex'),
    first: new Promise<string>((resolve) => {
      onFirst = resolve
    }),
    end: new Promise<void>((resolve, reject) => waitFor(stream, 'end', resolve, reject)),
  }
  state.end.catch(() => undefined)
  stream.on('error', (error: Error) => failures.set(stream, error))
  stream.on('data', (message: Buffer) => {
    if (onFirst !== undefined) {
      onFirst(message.toString())
      onFirst = undefined
      return
    }
    state.bytes += message.length
    received += message.length
    hash.update(message)
  })
  return state
}

async function serve(stream: NoiseStream): Promise<void> {
  const input = read(stream)
  const request = JSON.parse(await input.first) as { direction: 'up' | 'down'; bytes: number }
  if (request.direction === 'up') {
    await input.end
    stream.write(Buffer.from(JSON.stringify({ digest: input.digest(), bytes: input.bytes })))
    stream.end()
    return
  }
  stream.write(Buffer.from('{}'))
  const digest = await sendBytes(stream, request.bytes)
  stream.write(Buffer.from(digest, 'hex'))
  stream.end()
}

async function transfer(publicKey: Uint8Array, direction: 'up' | 'down', bytes: number): Promise<Partial<Answer>> {
  if (dht === undefined) throw new Error('not started')
  const stream = dht.connect(publicKey)
  const closed = new Promise<void>((resolve) => {
    stream.once('close', resolve)
  })
  const input = read(stream)
  await Promise.race([stream.opened, closed])
  if (stream.destroyed) throw failures.get(stream) ?? new Error('could not connect')
  const start = performance.now()
  stream.write(Buffer.from(JSON.stringify({ direction, bytes })))
  if (direction === 'up') {
    const digest = await sendBytes(stream, bytes)
    stream.end()
    const answer = JSON.parse(await Promise.race([input.first, input.end.then(() => '{}')])) as {
      digest?: string
      bytes?: number
    }
    if (answer.digest !== digest || answer.bytes !== bytes) throw new Error('the bytes have changed')
  } else {
    await input.end
    if (input.bytes !== bytes + 32) throw new Error(`${input.bytes} bytes came instead of ${bytes + 32}`)
    const hash = createHash('sha256')
    for (let offset = 0; offset < bytes; offset += CHUNK) hash.update(chunkAt(offset, bytes))
    const whole = createHash('sha256')
    for (let offset = 0; offset < bytes; offset += CHUNK) whole.update(chunkAt(offset, bytes))
    if (whole.update(hash.digest()).digest('hex') !== input.digest()) throw new Error('the bytes have changed')
    stream.end()
  }
  const ms = performance.now() - start
  await closed
  return { ms }
}

function fail(): never {
  throw new Error('not started')
}

/** A port that is free at this moment: a bootstrapper has to be given one. */
async function freePort(): Promise<number> {
  const socket = (udx ?? fail()).createSocket()
  socket.bind(0, HOST)
  const { port } = socket.address()
  await socket.close()
  return port
}

async function start(command: Extract<Command, { do: 'start' }>): Promise<Partial<Answer>> {
  if (command.implementation === 'addon') udx = new (addon())()
  else {
    const mutator = createMutator(command.seed ?? 1, command.mutate ?? 0)
    mutated = () => mutator.count
    faults = { loss: command.loss ?? 0, seed: command.seed ?? 1, ...(command.mutate ? { tap: mutator.tap } : {}) }
    const backend = createFaultyBackend(runtimeBackend, faults)
    udx = new UDX({ backend }) as unknown as { createSocket(): AnySocket }
  }
  const options = { udx, host: HOST }
  if (command.bootstrap === undefined)
    dht = HyperDHT.bootstrapper(await freePort(), HOST, { ...options, bootstrap: [] })
  else
    dht = new HyperDHT({
      ...options,
      ephemeral: false,
      firewalled: false,
      bootstrap: [{ host: HOST, port: command.bootstrap }],
    })
  await dht.fullyBootstrapped()
  return { port: dht.address().port }
}

async function execute(command: Command): Promise<Partial<Answer>> {
  if (command.do === 'start') return start(command)
  if (dht === undefined) return fail()
  switch (command.do) {
    case 'lose': {
      if (faults === undefined) throw new Error('the addon loses nothing')
      faults.loss = command.share
      return {}
    }
    case 'listen': {
      const server = dht.createServer((stream) => {
        stream.on('error', () => undefined)
        serve(stream).catch(() => stream.destroy())
      })
      await server.listen(dht.defaultKeyPair)
      return { publicKey: Buffer.from(dht.defaultKeyPair.publicKey).toString('hex') }
    }
    case 'announce': {
      for (const topic of command.topics)
        await dht.announce(Buffer.from(topic, 'hex'), dht.defaultKeyPair, []).finished()
      return {}
    }
    case 'lookup': {
      const found = new Set<string>()
      for (const topic of command.topics) {
        for await (const reply of dht.lookup(Buffer.from(topic, 'hex'))) {
          for (const peer of reply.peers) found.add(`${topic} ${Buffer.from(peer.publicKey).toString('hex')}`)
        }
      }
      return { found: found.size }
    }
    case 'transfer': {
      const key = Buffer.from(command.publicKey, 'hex')
      const result = await transfer(key, command.direction, command.bytes)
      return { ...result, mutated: mutated() }
    }
    case 'parallel': {
      const key = Buffer.from(command.publicKey, 'hex')
      const all = Array.from({ length: command.streams }, (_, i) => transfer(key, i % 2 ? 'up' : 'down', command.bytes))
      await Promise.all(all)
      return { found: all.length }
    }
    case 'receive': {
      while (received < command.bytes) await new Promise((resolve) => setTimeout(resolve, 20))
      return {}
    }
    case 'stop': {
      await dht.destroy({ force: true })
      return {}
    }
    default:
      return command satisfies never
  }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  const command = JSON.parse(line) as Command
  execute(command).then(
    (answer) => tell(command, { ok: true, ...answer }),
    (error: Error & { code?: string }) =>
      tell(command, { ok: false, error: error.message, ...(error.code === undefined ? {} : { code: error.code }) }),
  )
})

// The one that gives the commands is gone.
lines.on('close', () => {
  if (!stopped) void dht?.destroy({ force: true })
})

/** After the answer to stop nothing is left to do, and the process must end by itself: nothing here calls exit(). */
function tell(command: Command, answer: Answer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`)
  if (command.do !== 'stop') return
  stopped = true
  lines.close()
  process.stdin.destroy()
}
