import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { messageBody } from '../../../../lib/peers/http1/body.ts'
import { cut, sourceOf } from '../../../doubles/byte-source.ts'
import { read } from '../../../doubles/http-peers.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'))

/** A body of `length` bytes over a connection, and whether the connection can be used again. */
async function bodyOf(sent: string, length: number, size: number) {
  const usable: boolean[] = []
  const [first = new Uint8Array(), ...more] = cut(bytesOf(sent), size)
  const body = messageBody(sourceOf(more), length, first, (isUsable) => usable.push(isUsable))
  const result = await read(body).then(String, ({ cause }) => String(cause))
  await body.cancel()
  await waitFor('the connection is not needed any more', () => usable.length > 0)
  return { result, usable }
}

test('messageBody gives as many bytes as declared, wherever they are cut, or an error', async () => {
  const text = fc.string({ maxLength: 50, unit: 'binary-ascii' })
  await fc.assert(
    fc.asyncProperty(text, fc.nat(60), fc.integer({ min: 1, max: 9 }), async (sent, length, size) => {
      const { result, usable } = await bodyOf(sent, length, size)
      if (sent.length < length) assert.match(result, /the connection ended \d+ bytes before the body/)
      else assert.equal(result, sent.slice(0, length))
      // What follows was not asked for, if it is seen.
      if (sent.length < length) assert.deepEqual(usable, [false])
      else if (sent.length === length) assert.deepEqual(usable, [true])
    }),
  )
})
