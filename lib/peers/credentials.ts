import { createHmac, createSecretKey, hkdfSync, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Key } from '../oci/key.ts'

/** Carries the capability of a request to a peer door. */
export const CAPABILITY_HEADER = 'X-Swarmirror-Capability'
/** Carries the proof of an answer of a peer door. */
export const PROOF_HEADER = 'X-Swarmirror-Proof'

/** The key of a request that asks for no content, only whether the door lets this node in. */
export const DOOR_KEY = '' as Key

/** Made for one request to one peer. */
export interface PeerTicket {
  readonly headers: Readonly<Record<string, string>>
  /** Whether the answer's head proves the swarm key over this ticket's nonce. */
  proves(status: number, headers: Headers): boolean
}

export interface PeerCredentials {
  /**
   * A short-lived capability for that key and method at one door.
   *
   * @param door the address that is dialled, as `host:port`
   */
  ticket(key: Key, method: 'GET' | 'HEAD', door: string): PeerTicket
}

/** Makes the headers that prove the swarm key over the asker's nonce for this answer. */
export interface Grant {
  prove(status: number, headers: Headers): Record<string, string>
}

/** The door's side. */
export interface CapabilityCheck {
  /**
   * @param door the address that this door's node announces, as `host:port`: a capability for another one is none
   * @returns `undefined`: not allowed
   */
  check(request: Request, key: Key, door: string): Grant | undefined
}

export interface CredentialOptions {
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

/** For how long a capability may be used, in milliseconds: the time of a request's way to a busy peer, with room. */
export const CAPABILITY_LIFETIME = 60_000
/**
 * How far the clocks of two nodes may be apart, in milliseconds, in either direction. Nodes that keep time by NTP are
 * within a second of each other; a minute covers a node that has just started.
 */
export const CLOCK_SKEW = 60_000

// HKDF's `info`: what is derived for one purpose is worth nothing for another, nor for topics.
const CAPABILITY_PURPOSE = 'swarmirror/capability/1'
const PROOF_PURPOSE = 'swarmirror/proof/1'

// A token is, in bytes: version, milliseconds since 1970 (64 bits, big-endian), nonce, HMAC-SHA256. Its 57 bytes are
// exactly 76 characters of base64url, so that each token has one spelling only.
const VERSION = 1
const ISSUED_AT = 1
const NONCE_AT = 9
const MAC_AT = 25
const TOKEN_LENGTH = 57
const TOKEN = /^[A-Za-z0-9_-]{76}$/
/** Takes the place of a token that is none, so that it is refused after the same work. */
const NO_TOKEN = Buffer.alloc(TOKEN_LENGTH).toString('base64url')

/** The headers that a proof covers, besides the status: all that an asker believes of an answer's head. */
const PROVEN_HEADERS = ['docker-content-digest', 'content-type', 'content-length', 'content-range'] as const

/** What a capability is good for. */
interface Scope {
  readonly method: string
  readonly door: string
  readonly key: Key
}

/** What a proof answers to. */
interface Asked {
  readonly token: string
  readonly door: string
}

/** Made ready once: with bytes for a key, Node takes four times as long for each code. */
interface Secrets {
  readonly capability: KeyObject
  readonly proof: KeyObject
}

/**
 * Both sides of the peer door's protection, from the swarm keys (32 bytes each). A capability lets its bearer ask one peer
 * door for one key with one method; it is good for {@link CAPABILITY_LIFETIME}, give or take {@link CLOCK_SKEW}. It is made
 * for the address that is dialled: whoever listens where a member used to be can do nothing with it at any other door. A
 * proof binds an answer's head to the capability that asked for it, and so to the door.
 *
 * @param keys the first is used, all are accepted
 * @throws {RangeError} without any key
 */
export function createCredentials(
  keys: readonly Uint8Array[],
  { now = Date.now }: CredentialOptions = {},
): PeerCredentials & CapabilityCheck {
  const accepted = keys.map(secretsOf)
  const [used] = accepted
  if (used === undefined) throw new RangeError('expected at least one swarm key')
  return {
    ticket(key, method, door) {
      const token = issue(used, { method, door, key }, now())
      return {
        headers: { [CAPABILITY_HEADER]: token },
        proves(status, headers) {
          return isEqual(headers.get(PROOF_HEADER) ?? '', proofOf(used, { token, door }, status, headers))
        },
      }
    },
    check(request, key, door) {
      const given = request.headers.get(CAPABILITY_HEADER) ?? ''
      const token = TOKEN.test(given) ? given : NO_TOKEN
      const bytes = Buffer.from(token, 'base64url')
      const inTime = isTimely(bytes, now())
      let matching: Secrets | undefined
      // All keys are tried, and the time is only looked at afterwards: a refusal takes the same work whatever its reason.
      for (const secrets of accepted) {
        const mac = macOf(secrets, bytes.subarray(0, MAC_AT), { method: request.method, door, key })
        if (timingSafeEqual(mac, bytes.subarray(MAC_AT))) matching = secrets
      }
      if (matching === undefined || !inTime) return undefined
      const secrets = matching
      return {
        prove: (status, headers) => ({ [PROOF_HEADER]: proofOf(secrets, { token, door }, status, headers) }),
      }
    },
  }
}

function secretsOf(swarmKey: Uint8Array): Secrets {
  const derive = (purpose: string) => createSecretKey(new Uint8Array(hkdfSync('sha256', swarmKey, '', purpose, 32)))
  return { capability: derive(CAPABILITY_PURPOSE), proof: derive(PROOF_PURPOSE) }
}

function issue(secrets: Secrets, scope: Scope, now: number): string {
  const token = Buffer.alloc(TOKEN_LENGTH)
  token[0] = VERSION
  token.writeBigUInt64BE(BigInt(now), ISSUED_AT)
  randomBytes(MAC_AT - NONCE_AT).copy(token, NONCE_AT)
  macOf(secrets, token.subarray(0, MAC_AT), scope).copy(token, MAC_AT)
  return token.toString('base64url')
}

function macOf({ capability }: Secrets, head: Uint8Array, { method, door, key }: Scope): Buffer {
  // The head has a fixed length, and neither a method nor an address has a line feed: no two scopes give the same bytes.
  return createHmac('sha256', capability).update(head).update(`${method}\n${door}\n${key}`).digest()
}

function isTimely(token: Buffer, now: number): boolean {
  const age = now - Number(token.readBigUInt64BE(ISSUED_AT))
  return token[0] === VERSION && age >= -CLOCK_SKEW && age <= CAPABILITY_LIFETIME + CLOCK_SKEW
}

function proofOf({ proof }: Secrets, { token, door }: Asked, status: number, headers: Headers): string {
  const lines = PROVEN_HEADERS.flatMap((name) => {
    const value = headers.get(name)
    return value === null ? [] : [`${name}: ${value}\n`]
  })
  return createHmac('sha256', proof)
    .update(`${token}\n${door}\n${status}\n${lines.join('')}`)
    .digest('base64url')
}

/** Compares in a time that depends on the length alone. */
function isEqual(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}
