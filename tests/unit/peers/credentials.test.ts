import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '../../../lib/oci/key.ts'
import {
  CAPABILITY_HEADER,
  CAPABILITY_LIFETIME,
  CLOCK_SKEW,
  createCredentials,
  PROOF_HEADER,
} from '../../../lib/peers/credentials.ts'

const DIGEST = `sha256:${'a'.repeat(64)}` as Key
const DOOR = '192.0.2.1:5001'
const TAG = 'registry.example/team/app:1' as Key
const NEW = new Uint8Array(randomBytes(32))
const OLD = new Uint8Array(randomBytes(32))
const credentials = createCredentials([NEW])

function asking(token: string | undefined, method = 'GET'): Request {
  const headers = token === undefined ? {} : { [CAPABILITY_HEADER]: token }
  return new Request('http://peer.example/', { method, headers })
}

function tokenOf(key: Key, method: 'GET' | 'HEAD' = 'GET', from = credentials, door = DOOR): string {
  return from.ticket(key, method, door).headers[CAPABILITY_HEADER] ?? assert.fail('no token')
}

test('credentials check accepts a ticket for its own key and method', () => {
  for (const key of [DIGEST, TAG]) {
    for (const method of ['GET', 'HEAD'] as const) {
      assert.ok(credentials.check(asking(tokenOf(key, method), method), key, DOOR))
    }
  }
})

test('credentials ticket never gives the same token twice', () => {
  assert.notEqual(tokenOf(DIGEST), tokenOf(DIGEST))
})

for (const [what, request, key] of [
  ['no token', asking(undefined), DIGEST],
  ['an empty token', asking(''), DIGEST],
  ['a token of zeros', asking(`${Date.now()}.${'A'.repeat(22)}.${'A'.repeat(43)}`), DIGEST],
  ['a token for another key', asking(tokenOf(TAG)), DIGEST],
  ['a token for another method', asking(tokenOf(DIGEST, 'HEAD')), DIGEST],
  ['a token of another swarm', asking(tokenOf(DIGEST, 'GET', createCredentials([OLD]))), DIGEST],
  ['a token for another door', asking(tokenOf(DIGEST, 'GET', credentials, '192.0.2.2:5001')), DIGEST],
  ['a token for another port', asking(tokenOf(DIGEST, 'GET', credentials, '192.0.2.1:5002')), DIGEST],
  ['a token for no door', asking(tokenOf(DIGEST, 'GET', credentials, '')), DIGEST],
  ['two tokens at once', asking(`${tokenOf(DIGEST)}, ${tokenOf(DIGEST)}`), DIGEST],
  ['a token with padding', asking(`${tokenOf(DIGEST)}=`), DIGEST],
] as const) {
  test(`credentials check refuses ${what}`, () => {
    assert.equal(credentials.check(request, key, DOOR), undefined)
  })
}

test('credentials check refuses every mutation of a valid token', () => {
  const token = tokenOf(DIGEST)
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=.~'
  const character = fc.constantFrom(...alphabet)
  const at = fc.nat(token.length - 1)
  const mutated = fc.oneof(
    fc.tuple(at, character).map(([index, other]) => token.slice(0, index) + other + token.slice(index + 1)),
    fc.tuple(at, character).map(([index, other]) => token.slice(0, index) + other + token.slice(index)),
    fc.tuple(at, fc.nat(10)).map(([index, count]) => token.slice(0, index) + token.slice(index + count)),
    fc.tuple(at, at).map(([from, to]) => token.slice(from) + token.slice(0, to)),
    fc.string({ unit: character, minLength: token.length, maxLength: token.length }),
  )
  fc.assert(
    fc.property(mutated, (other) => {
      fc.pre(other !== token)
      assert.equal(credentials.check(asking(other), DIGEST, DOOR), undefined)
    }),
    { numRuns: 2_000 },
  )
})

test('credentials check refuses a token of which the last character says the same bytes', () => {
  const token = tokenOf(DIGEST)
  const bytes = Buffer.from(token.slice(-43), 'base64url')
  const same = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_']
    .map((last) => token.slice(0, -1) + last)
    .filter((other) => bytes.equals(Buffer.from(other.slice(-43), 'base64url')))
  assert.equal(same.length, 4)
  for (const other of same) assert.equal(credentials.check(asking(other), DIGEST, DOOR) !== undefined, other === token)
})

test('credentials check refuses a token for every other key', () => {
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom(`GET\n${DIGEST}`, `${DIGEST}\n`, ` ${DIGEST}`, DIGEST.slice(0, -1)),
  )
  fc.assert(
    fc.property(text, text, (one, other) => {
      fc.pre(one !== other)
      assert.equal(credentials.check(asking(tokenOf(one as Key)), other as Key, DOOR), undefined)
    }),
  )
})

test('credentials check refuses a token for every other split of the same text between door and key', () => {
  const text = `GET\n${DOOR}\n${DIGEST}`
  fc.assert(
    fc.property(fc.nat(text.length), fc.nat(text.length), (from, to) => {
      const [door, key] = [text.slice(0, from), text.slice(to)]
      fc.pre(!door.includes('\n') && (door !== DOOR || key !== DIGEST))
      assert.equal(credentials.check(asking(tokenOf(key as Key, 'GET', credentials, door)), DIGEST, DOOR), undefined)
    }),
  )
})

test('credentials prove no answer to a ticket for another door', () => {
  const ticket = credentials.ticket(DIGEST, 'GET', DOOR)
  const other = credentials.ticket(DIGEST, 'GET', '192.0.2.2:5001')
  const grant = credentials.check(asking(ticket.headers[CAPABILITY_HEADER]), DIGEST, DOOR) ?? assert.fail('refused')
  const proof = new Headers(grant.prove(404, new Headers()))
  assert.deepEqual([ticket.proves(404, proof), other.proves(404, proof)], [true, false])
})

test('credentials check tolerates the clock skew, and refuses what is older or newer', () => {
  const start = Date.now()
  let time = start
  const clocked = createCredentials([NEW], { now: () => time })
  const token = tokenOf(DIGEST, 'GET', clocked)
  for (const [offset, allowed] of [
    [0, true],
    [CAPABILITY_LIFETIME, true],
    [CAPABILITY_LIFETIME + CLOCK_SKEW, true],
    [CAPABILITY_LIFETIME + CLOCK_SKEW + 1, false],
    [-CLOCK_SKEW, true],
    [-CLOCK_SKEW - 1, false],
    [1e12, false],
  ] as const) {
    time = start + offset
    assert.equal(clocked.check(asking(token), DIGEST, DOOR) !== undefined, allowed, `${offset} ms`)
  }
})

test('credentials of two keys use the first and accept both', () => {
  const rotating = createCredentials([NEW, OLD])
  const behind = createCredentials([OLD, NEW])
  for (const [from, to, allowed] of [
    [rotating, createCredentials([NEW]), true],
    [rotating, createCredentials([OLD]), false],
    [rotating, behind, true],
    [behind, rotating, true],
    [createCredentials([OLD]), rotating, true],
  ] as const) {
    const ticket = from.ticket(TAG, 'GET', DOOR)
    const grant = to.check(asking(ticket.headers[CAPABILITY_HEADER]), TAG, DOOR)
    assert.equal(grant !== undefined, allowed)
    // The answer is proven under the key of the request, whichever key the door itself would use.
    if (grant !== undefined) assert.ok(ticket.proves(404, new Headers(grant.prove(404, new Headers()))))
  }
  assert.throws(() => createCredentials([]), /at least one swarm key/)
})

const HEAD = {
  'content-type': 'application/octet-stream',
  'content-length': '10',
  'content-range': 'bytes 0-9/20',
  'docker-content-digest': DIGEST,
}

/** A ticket and the headers of a door's answer to it. */
function answered(status: number, head: Record<string, string>) {
  const ticket = credentials.ticket(DIGEST, 'GET', DOOR)
  const grant = credentials.check(asking(ticket.headers[CAPABILITY_HEADER]), DIGEST, DOOR) ?? assert.fail('refused')
  return { ticket, headers: new Headers({ ...head, ...grant.prove(status, new Headers(head)) }) }
}

test('credentials prove an answer to the one who asked, whatever its other headers', () => {
  for (const status of [200, 206, 404, 416, 503]) {
    const { ticket, headers } = answered(status, HEAD)
    headers.set('date', 'now')
    assert.ok(ticket.proves(status, headers))
    assert.ok(!credentials.ticket(DIGEST, 'GET', DOOR).proves(status, headers), 'another ticket')
  }
})

test('credentials proves no answer of which the status or a proven header was changed, added or left out', () => {
  for (const name of Object.keys(HEAD)) {
    const { ticket, headers } = answered(206, HEAD)
    const right = headers.get(name) ?? ''
    headers.set(name, `${right}1`)
    assert.ok(!ticket.proves(206, headers), `${name} changed`)
    headers.delete(name)
    assert.ok(!ticket.proves(206, headers), `${name} left out`)
    headers.set(name, right)
    assert.ok(ticket.proves(206, headers))
    assert.ok(!ticket.proves(200, headers), 'another status')
    const bare = answered(404, {})
    bare.headers.set(name, right)
    assert.ok(!bare.ticket.proves(404, bare.headers), `${name} added`)
  }
})

test('credentials proves nothing by a proof that is missing or made without the swarm key', () => {
  const { ticket, headers } = answered(404, {})
  fc.assert(
    fc.property(fc.string({ unit: 'binary-ascii', maxLength: 60 }), (proof) => {
      const printable = proof.replace(/[^ -~]/g, 'x')
      fc.pre(printable !== headers.get(PROOF_HEADER))
      assert.ok(!ticket.proves(404, new Headers({ [PROOF_HEADER]: printable })))
    }),
  )
  assert.ok(!ticket.proves(404, new Headers()))
  assert.ok(ticket.proves(404, headers))
})
