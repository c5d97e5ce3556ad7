import { createHmac, createSecretKey, hkdfSync, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Key } from '../oci/key.ts'

/** The header with the capability of a request to a peer door. */
export const CAPABILITY_HEADER = 'X-Swarmirror-Capability'
/** The header with the proof of an answer of a peer door. */
export const PROOF_HEADER = 'X-Swarmirror-Proof'

/**
 * The header of a follower's request, which may be answered with content that is still being written. Its value is the address
 * of the asker's own peer door.
 */
export const FOLLOWER_HEADER = 'X-Swarmirror-Follower'

/** The key of a request that only asks whether the door lets this node in. */
export const DOOR_KEY = '' as Key

/** The side of the asker. */
export type PeerCredentials = Pick<ReturnType<typeof createCredentials>, 'ticket'>
/** The side of the door. */
export type CapabilityCheck = Pick<ReturnType<typeof createCredentials>, 'check'>

/** Milliseconds for which a capability is valid: more than a request needs to reach a busy peer. */
export const CAPABILITY_LIFETIME = 60_000
/**
 * Milliseconds by which the clocks of two nodes may differ. Nodes with NTP are within a second of each other; a minute covers a
 * node that has just started.
 */
export const CLOCK_SKEW = 60_000

// HKDF's `info`, so that a key derived for one purpose is useless for another one, and for topics.
const CAPABILITY_PURPOSE = 'swarmirror/capability/1'
const PROOF_PURPOSE = 'swarmirror/proof/1'

/**
 * The time of issue (milliseconds since 1970), a nonce of 16 bytes, and the HMAC-SHA256 of both and of what the token allows.
 */
const TOKEN = /^((\d{1,16})\.[\w-]{22})\.([\w-]{43})$/
const NONCE_LENGTH = 16

/** The headers that a proof covers besides the status: all parts of an answer's head that the asker relies on. */
const PROVEN_HEADERS = ['docker-content-digest', 'content-type', 'content-length', 'content-range'] as const

/**
 * Makes both sides of the peer door's protection from the swarm keys (32 bytes each). A capability lets its bearer ask one peer
 * door for one key with one method. It is valid for {@link CAPABILITY_LIFETIME}, give or take {@link CLOCK_SKEW}. It is made
 * for the dialled address, so a stranger who listens at the former address of a member cannot use it at any other door. A proof
 * binds an answer's head to the capability of the request, and so to the door.
 *
 * @param keys the first one is used, and all are accepted
 * @param options.now milliseconds since 1970
 * @throws {RangeError} if there is no key
 */
export function createCredentials(keys: readonly Uint8Array[], { now = Date.now } = {}) {
  const accepted = keys.map(secretsOf)
  const [used] = accepted
  if (used === undefined) throw new RangeError('expected at least one swarm key')
  return {
    /**
     * Makes a short-lived capability for this key and method at one door, and the headers that carry it.
     *
     * @param door the address that is dialled, as `host:port`
     */
    ticket(key: Key, method: 'GET' | 'HEAD', door: string) {
      const issued = `${now()}.${randomBytes(NONCE_LENGTH).toString('base64url')}`
      const token = `${issued}.${macOf(used.capability, issued, method, door, key)}`
      const headers: Readonly<Record<string, string>> = { [CAPABILITY_HEADER]: token }
      return {
        headers,
        /** Whether an answer's head proves the swarm key over the nonce of this capability. */
        proves: (status: number, headers: Headers): boolean =>
          isEqual(headers.get(PROOF_HEADER) ?? '', proofOf(used.proof, token, door, status, headers)),
      }
    },

    /**
     * @param door the address that this door's node announces, as `host:port`; capabilities for other addresses are refused
     * @returns `undefined`: not allowed
     */
    check(request: Request, key: Key, door: string) {
      const [token, issued = '', issuedAt, mac = ''] = TOKEN.exec(request.headers.get(CAPABILITY_HEADER) ?? '') ?? []
      const age = now() - Number(issuedAt)
      if (token === undefined || age < -CLOCK_SKEW || age > CAPABILITY_LIFETIME + CLOCK_SKEW) return undefined
      const secrets = accepted.find(({ capability }) =>
        isEqual(mac, macOf(capability, issued, request.method, door, key)),
      )
      return (
        secrets && {
          /** The headers that prove the swarm key over the asker's nonce for this answer. */
          prove: (status: number, headers: Headers) => ({
            [PROOF_HEADER]: proofOf(secrets.proof, token, door, status, headers),
          }),
        }
      )
    },
  }
}

/** Key objects, which are made once: with raw bytes as a key, Node takes four times as long for each code. */
function secretsOf(swarmKey: Uint8Array) {
  const derive = (purpose: string) => createSecretKey(new Uint8Array(hkdfSync('sha256', swarmKey, '', purpose, 32)))
  return { capability: derive(CAPABILITY_PURPOSE), proof: derive(PROOF_PURPOSE) }
}

function proofOf(secret: KeyObject, token: string, door: string, status: number, headers: Headers): string {
  const proven = PROVEN_HEADERS.flatMap((name) => {
    const value = headers.get(name)
    return value === null ? [] : [`${name}: ${value}`]
  })
  return macOf(secret, token, door, String(status), ...proven)
}

/** The code of some parts. Only the last part may have a line feed, so different parts always give different input. */
function macOf(secret: KeyObject, ...parts: readonly string[]): string {
  return createHmac('sha256', secret).update(parts.join('\n')).digest('base64url')
}

/** Compares in a time that depends only on the length. */
function isEqual(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}
