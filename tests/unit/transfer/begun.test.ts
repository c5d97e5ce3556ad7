import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PeerError } from '../../../lib/peers/error.ts'
import type { ByteSource } from '../../../lib/platform/byte-source.ts'
import { begun } from '../../../lib/transfer/peer-content.ts'
import { VerificationError } from '../../../lib/transfer/verify.ts'
import { cut, sourceOf, TestSource } from '../../doubles/byte-source.ts'
import { BLOB, bodyOf, layer, read } from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

/** A source that fails when it is first read. */
function failing(error: unknown): ByteSource & { cancelled: boolean } {
  return {
    cancelled: false,
    next: () => Promise.reject(error),
    async cancel() {
      this.cancelled = true
    },
  }
}

const answerOf = (number: number, body: ByteSource | null) => {
  const descriptor = { ...layer.descriptor, size: number }
  return { kind: 'content', descriptor, range: undefined, body } as const
}

/** Returns the answers in their order, and counts them. */
function finding(bodies: readonly (ByteSource | null)[]) {
  let asked = 0
  const find = async () => {
    const body = bodies[asked++]
    return body === undefined ? undefined : answerOf(asked, body)
  }
  return { find, asked: () => asked }
}

test('begun gives an answer with all of its bytes, of which the first are there', async () => {
  const source = sourceOf(cut(layer.bytes, 100_000))
  const answer = await begun(finding([source]).find, never)
  assert.equal(source.read, 1)
  assert.ok(answer?.kind === 'content')
  assert.equal(answer.descriptor.size, 1)
  assert.deepEqual(await read(answer.body), Buffer.from(layer.bytes))
})

test('begun gives nothing more of an answer that was cancelled, and what has no body, or no byte, as it is', async () => {
  const source = sourceOf([new Uint8Array(1)])
  const answer = await begun(finding([source]).find, never)
  assert.ok(answer?.kind === 'content')
  await answer.body?.cancel()
  assert.equal(source.cancelled, true)
  assert.deepEqual(await begun(finding([null]).find, never), answerOf(1, null))
  assert.equal(await begun(finding([]).find, never), undefined)
  assert.equal((await read(bodyOf(await begun(finding([sourceOf([])]).find, never)))).length, 0)
})

test('begun takes what peers do not give for a miss, and asks nobody again', async () => {
  const source = failing(new PeerError('no peer left'))
  const { find, asked } = finding([source, sourceOf([new Uint8Array(1)])])
  assert.equal(await begun(find, never), undefined)
  assert.deepEqual([asked(), source.cancelled], [1, true])
})

test('begun asks others when the first bytes are the last and wrong, three times at most', async () => {
  const wrong = () => failing(new VerificationError(BLOB.digest))
  const once = finding([wrong(), sourceOf([new Uint8Array(1)])])
  const right = await begun(once.find, never)
  assert.equal(right?.kind === 'content' && right.descriptor.size, 2)
  const always = finding(Array.from({ length: 9 }, wrong))
  assert.equal(await begun(always.find, never), undefined)
  assert.equal(always.asked(), 3)
})

test('begun hands on every other failure, and ends with the reason of its signal', async () => {
  const bug = new TypeError('a bug')
  await assert.rejects(begun(finding([failing(bug)]).find, never), bug)
  const stop = new AbortController()
  const source = new TestSource()
  const answer = begun(finding([source]).find, stop.signal)
  await waitFor('a byte is waited for', () => source.asked === 1)
  const reason = new Error('the client left')
  stop.abort(reason)
  await assert.rejects(within('the end', answer), reason)
  assert.equal(source.cancelled, true)
})
