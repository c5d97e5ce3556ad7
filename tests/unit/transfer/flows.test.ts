import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unlessAborted } from '../../../lib/platform/abort.ts'
import { createFlow } from '../../../lib/transfer/flow.ts'
import { Flows, type OpenFlow } from '../../../lib/transfer/flows.ts'
import { cut, sourceOf } from '../../doubles/byte-source.ts'
import { layer, read } from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'
import { within } from '../../fixtures/wait.ts'

const { descriptor, bytes } = layer
const { digest, size } = descriptor

/** Flows of the layer, which open when the test says so. */
function make() {
  const flows = new Flows()
  const begun: { readonly signal: AbortSignal; open(): void; readonly source: ReturnType<typeof sourceOf> }[] = []
  const begin =
    (start: number) =>
    (signal: AbortSignal): Promise<OpenFlow | undefined> => {
      const opening = Promise.withResolvers<OpenFlow>()
      const source = sourceOf(cut(bytes.subarray(start), 100_000))
      const alone = () => assert.fail('nobody is too slow')
      const span = { start, end: size }
      const flow = createFlow({
        source,
        span,
        alone,
        window: () => Number.POSITIVE_INFINITY,
        onRetire: () => flows.remove(signal),
      })
      begun.push({
        signal,
        source,
        open: () => opening.resolve({ size, content: { descriptor, flow } }),
      })
      return opening.promise
    }
  const join = (signal: AbortSignal = never, start = 0) =>
    flows.join(digest, start, ({ content }) => content?.flow.attach({ start, end: size }), begin(start), signal)
  return { flows, begun, join }
}

test('Flows stops opening a flow when everybody who waits has left, and closes it if it comes anyway', async () => {
  const { flows, begun, join } = make()
  const [one, other] = [new AbortController(), new AbortController()]
  const joins = [join(one.signal), join(other.signal)].map((joined) => joined.then(() => 'joined', String))
  one.abort(new Error('one'))
  assert.equal(await joins[0], 'Error: one')
  assert.deepEqual([flows.size, begun[0]?.signal.aborted], [1, false])
  other.abort(new Error('other'))
  assert.equal(await joins[1], 'Error: other')
  assert.deepEqual([flows.size, begun[0]?.signal.aborted], [0, true])
  // A request that comes now has nothing to do with the former flow.
  const later = join()
  begun[0]?.open()
  begun[1]?.open()
  assert.deepEqual(await within('the body', read((await later) ?? null)), Buffer.from(bytes))
  assert.deepEqual([begun.length, begun[0]?.source.cancelled], [2, true])
})

test('Flows lets a request join a flow that begins before it, and begins another one for earlier bytes', async () => {
  const { flows, begun, join } = make()
  const [late, later, early] = [join(never, 10), join(never, 20), join(never, 5)]
  assert.equal(begun.length, 2)
  for (const { open } of begun) open()
  for (const [joined, start] of [
    [late, 10],
    [later, 20],
    [early, 5],
  ] as const) {
    assert.deepEqual(await within('the body', read((await joined) ?? null)), Buffer.from(bytes.subarray(start)))
  }
  assert.equal(flows.size, 0)
})

test('Flows begins another flow for a request that does not fit the existing one', async () => {
  const { flows, begun, join } = make()
  const first = join()
  begun[0]?.open()
  const reader = (await first) ?? assert.fail('no reader')
  const other = flows.join(
    digest,
    0,
    ({ content }, isJoined) => (isJoined ? undefined : content?.flow),
    async () => undefined,
    never,
  )
  assert.equal(await other, undefined)
  assert.deepEqual(await read(reader), Buffer.from(bytes))
})

test('Flows passes by a flow that was given up while a request waited for another one', async () => {
  const { flows, begun, join } = make()
  const first = join(never, 10)
  const leaving = new AbortController()
  const given = (signal: AbortSignal) => unlessAborted(new Promise<undefined>(() => undefined), signal)
  const left = flows.join(digest, 5, () => 'joined', given, leaving.signal)
  const use = (_: OpenFlow, isJoined: boolean) => (isJoined ? undefined : 'alone')
  const last = flows.join(digest, 20, use, async () => ({ size }), never)
  leaving.abort(new Error('left'))
  await assert.rejects(left, /left/)
  begun[0]?.open()
  assert.equal(await within('a flow of its own', last), 'alone')
  await (await first)?.cancel()
})
