import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Flows, type OpenFlow } from '../../../lib/transfer/flows.ts'
import { SharedFlow } from '../../../lib/transfer/share.ts'
import { Slots } from '../../../lib/transfer/slots.ts'
import { cut, sourceOf } from '../../doubles/byte-source.ts'
import { layer, read } from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'
import { within } from '../../fixtures/wait.ts'

const { descriptor, bytes } = layer
const { digest, size } = descriptor

/** Flows of the layer, each of which is opened when the test says so. */
function make() {
  const flows = new Flows()
  const slots = new Slots()
  const begun: { readonly signal: AbortSignal; open(): void; readonly source: ReturnType<typeof sourceOf> }[] = []
  const begin = (signal: AbortSignal): Promise<OpenFlow | undefined> => {
    const opening = Promise.withResolvers<OpenFlow>()
    const source = sourceOf(cut(bytes, 100_000))
    const alone = () => assert.fail('nobody is too slow')
    const flow = new SharedFlow(
      { source, size, slots, alone, onRetire: () => flows.remove(digest, signal) },
      () => Number.POSITIVE_INFINITY,
    )
    begun.push({ signal, source, open: () => opening.resolve({ descriptor, flow }) })
    return opening.promise
  }
  const join = (signal: AbortSignal = never) =>
    flows.join(digest, begin, ({ flow }) => flow.attach(0, size) ?? assert.fail('nothing to read'), signal)
  return { flows, begun, join }
}

test('Flows ends what is being opened when everybody who waits has left, and closes it if it comes all the same', async () => {
  const { flows, begun, join } = make()
  const [one, other] = [new AbortController(), new AbortController()]
  const joins = [join(one.signal), join(other.signal)].map((joined) => joined.then(() => 'joined', String))
  one.abort(new Error('one'))
  assert.equal(await joins[0], 'Error: one')
  assert.deepEqual([flows.has(digest), begun[0]?.signal.aborted], [true, false])
  other.abort(new Error('other'))
  assert.equal(await joins[1], 'Error: other')
  assert.deepEqual([flows.has(digest), begun[0]?.signal.aborted], [false, true])
  // Who comes now has nothing to do with the former one.
  const later = join()
  begun[0]?.open()
  begun[1]?.open()
  assert.deepEqual(await within('the body', read((await later) ?? null)), Buffer.from(bytes))
  assert.deepEqual([begun.length, begun[0]?.source.cancelled], [2, true])
})
