import { createHmac, createSecretKey, hkdfSync, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Key } from '../oci/key.ts'

/** Carries the capability of a request to a peer door. */
export const CAPABILITY_HEADER = 'X-Swarmirror-Capability'
/** Carries the proof of an answer of a peer door. */
export const PROOF_HEADER = 'X-Swarmirror-Proof'

/**
 * Says that a request follows: it may be answered with content that is still being written. Its value is the address of the
 * asker's own peer door.
 */
export const FOLLOWER_HEADER = 'X-Swarmirror-Follower'

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

/** What was issued when (milliseconds since 1970, and a nonce of 16 bytes), and the HMAC-SHA256 of that and of what it is good for. */
const TOKEN = /^((\d{1,16})\.[\w-]{22})\.([\w-]{43})$/
const NONCE_LENGTH = 16

/** The headers that a proof covers, besides the status: all that an asker believes of an answer's head. */
const PROVEN_HEADERS = ['docker-content-digest', 'content-type', 'content-length', 'content-range'] as const

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
      const issued = `${now()}.${randomBytes(NONCE_LENGTH).toString('base64url')}`
      const token = `${issued}.${macOf(used.capability, issued, method, door, key)}`
      return {
        headers: { [CAPABILITY_HEADER]: token },
        proves: (status, headers) =>
          isEqual(headers.get(PROOF_HEADER) ?? '', proofOf(used, token, door, status, headers)),
      }
    },
    check(request, key, door) {
      const [token, issued = '', issuedAt, mac = ''] = TOKEN.exec(request.headers.get(CAPABILITY_HEADER) ?? '') ?? []
      const age = now() - Number(issuedAt)
      if (token === undefined || age < -CLOCK_SKEW || age > CAPABILITY_LIFETIME + CLOCK_SKEW) return undefined
      const secrets = accepted.find(({ capability }) =>
        isEqual(mac, macOf(capability, issued, request.method, door, key)),
      )
      return (
        secrets && {
          prove: (status, headers) => ({ [PROOF_HEADER]: proofOf(secrets, token, door, status, headers) }),
        }
      )
    },
  }
}

function secretsOf(swarmKey: Uint8Array): Secrets {
  const derive = (purpose: string) => createSecretKey(new Uint8Array(hkdfSync('sha256', swarmKey, '', purpose, 32)))
  return { capability: derive(CAPABILITY_PURPOSE), proof: derive(PROOF_PURPOSE) }
}

function proofOf({ proof }: Secrets, token: string, door: string, status: number, headers: Headers): string {
  const proven = PROVEN_HEADERS.flatMap((name) => {
    const value = headers.get(name)
    return value === null ? [] : [`${name}: ${value}`]
  })
  return macOf(proof, token, door, String(status), ...proven)
}

/** The code of some parts, of which only the last may have a line feed: so no others have the same one. */
function macOf(secret: KeyObject, ...parts: readonly string[]): string {
  return createHmac('sha256', secret).update(parts.join('\n')).digest('base64url')
}

/** Compares in a time that depends on the length alone. */
function isEqual(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}
