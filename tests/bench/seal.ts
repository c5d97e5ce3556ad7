// The cost of sealing a datagram with each primitive on three runtimes: `node tests/bench/seal.ts`. It starts itself on each.
import { execFileSync } from 'node:child_process'
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { silentLogger } from '../../lib/observe/log.ts'
import { createSwarmSeal } from '../../lib/swarm/datagram-seal.ts'
import { printTable } from './figures.ts'

/** Bytes of a request of the DHT, and of a full packet of a stream. */
const SIZES = [100, 1_408]
const CALLS = 20_000
const ROUNDS = 5

/** A way to seal datagrams, to open them, and to refuse unsealed ones. */
interface Candidate {
  readonly name: string
  seal(): unknown
  open(): unknown
  refuse(): unknown
}

/** The functions of sodium-native that are compared. lib uses one pair of them. */
type Sodium = Record<string, (...args: readonly unknown[]) => unknown>

const require = createRequire(import.meta.url)
const sodium = require('sodium-native') as Sodium

function swarmSeal(plain: Buffer): Candidate {
  const key = randomBytes(32)
  const [seal, stranger] = [createSwarmSeal(silentLogger, [key]), randomBytes(plain.length)]
  // Each is opened once.
  const sealed = Array.from({ length: CALLS * ROUNDS }, () => seal.seal(plain))
  return {
    name: 'lib/swarm/datagram-seal.ts',
    seal: () => seal.seal(plain),
    open: () => seal.open(sealed.pop() ?? fail(), 1, '127.0.0.1') ?? fail(),
    refuse: () => seal.open(stranger, 1, '127.0.0.1') === undefined || fail(),
  }
}

function secretbox(plain: Buffer): Candidate {
  const [nonce, key, box] = [randomBytes(24), randomBytes(32), Buffer.alloc(plain.length + 16)]
  const [opened, stranger] = [Buffer.alloc(plain.length), randomBytes(box.length)]
  return {
    name: 'sodium-native crypto_secretbox',
    seal: () => sodium.crypto_secretbox_easy?.(box, plain, nonce, key),
    open: () => sodium.crypto_secretbox_open_easy?.(opened, box, nonce, key) || fail(),
    refuse: () => sodium.crypto_secretbox_open_easy?.(opened, stranger, nonce, key) && fail(),
  }
}

function xchacha(plain: Buffer): Candidate {
  const [nonce, key, box] = [randomBytes(24), randomBytes(32), Buffer.alloc(plain.length + 16)]
  const [opened, stranger] = [Buffer.alloc(plain.length), randomBytes(box.length)]
  const open = (from: Buffer) =>
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt?.(opened, null, from, null, nonce, key)
  return {
    name: 'sodium-native crypto_aead_xchacha20poly1305_ietf',
    seal: () => sodium.crypto_aead_xchacha20poly1305_ietf_encrypt?.(box, plain, null, null, nonce, key),
    open: () => open(box),
    refuse: () => throws(() => open(stranger)),
  }
}

function nodeCrypto(algorithm: 'aes-256-gcm' | 'chacha20-poly1305', plain: Buffer): Candidate {
  const [nonce, key, stranger] = [randomBytes(12), createSecretKey(randomBytes(32)), randomBytes(plain.length)]
  let [box, tag]: Buffer[] = [Buffer.alloc(0), Buffer.alloc(0)]
  const open = (from: Buffer) => {
    const decipher = createDecipheriv(algorithm as 'aes-256-gcm', key, nonce, { authTagLength: 16 })
    decipher.setAuthTag(tag as Buffer)
    const opened = decipher.update(from)
    decipher.final()
    return opened
  }
  return {
    name: `node:crypto ${algorithm}`,
    seal() {
      const cipher = createCipheriv(algorithm as 'aes-256-gcm', key, nonce, { authTagLength: 16 })
      box = cipher.update(plain)
      cipher.final()
      tag = cipher.getAuthTag()
    },
    open: () => open(box as Buffer),
    refuse: () => throws(() => open(stranger)),
  }
}

function fail(): never {
  throw new Error('a primitive does not do as it should')
}

function throws(open: () => unknown): void {
  try {
    open()
  } catch {
    return
  }
  fail()
}

/** CPU time of a call in microseconds: the least of some rounds, because other processes only add to it. */
function costOf(call: () => unknown): number {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage()
    for (let i = 0; i < CALLS; i++) call()
    const { user, system } = process.cpuUsage(before)
    if (round > 0) least = Math.min(least, (user + system) / CALLS)
  }
  return least
}

/** Rows of name, size, and the costs of sealing, opening and refusing. */
function measure(): string[][] {
  const rows: string[][] = []
  for (const size of SIZES) {
    const plain = randomBytes(size)
    const candidates = [
      () => swarmSeal(plain),
      () => secretbox(plain),
      () => xchacha(plain),
      () => nodeCrypto('aes-256-gcm', plain),
      () => nodeCrypto('chacha20-poly1305', plain),
    ]
    for (const create of candidates) {
      const { name, seal, open, refuse } = create()
      try {
        rows.push([name, `${size}`, ...[seal, open, refuse].map((call) => costOf(call).toFixed(2))])
      } catch (error) {
        if (!(error instanceof Error && error.message.includes('cipher'))) throw error
        rows.push([name, `${size}`, '-', '-', '-'])
      }
    }
  }
  return rows
}

const COMMANDS = { node: ['node'], deno: ['deno', 'run', '--allow-all', '--no-check', '--quiet'], bun: ['bun'] }

if (process.argv[2] === 'measure') console.log(JSON.stringify(measure()))
else {
  const rows: string[][] = []
  for (const [runtime, [command, ...args]] of Object.entries(COMMANDS)) {
    const bin = fileURLToPath(new URL(`../../node_modules/.bin/${command}`, import.meta.url))
    const output = execFileSync(bin, [...args, fileURLToPath(import.meta.url), 'measure'], { encoding: 'utf8' })
    for (const row of JSON.parse(output) as string[][]) rows.push([runtime, ...row])
  }
  console.log('CPU in microseconds for one datagram; - where the runtime does not have the cipher')
  printTable(['runtime', 'primitive', 'bytes', 'seal', 'open', 'refuse'], rows)
}
