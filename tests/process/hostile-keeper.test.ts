/** Members that lie about who is getting what: at worst, a pull goes upstream a little later. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encode, type Placing, type Question, readQuestion } from '../../lib/flight/message.ts'
import { createFlightMetrics } from '../../lib/flight/metrics.ts'
import { createNodeFlight, type NodeFlight } from '../../lib/flight/node-flight.ts'
import { digestKey } from '../../lib/oci/key.ts'
import { addressOf } from '../../lib/platform/address.ts'
import { systemClock } from '../../lib/platform/clock.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import { createPeerContent } from '../../lib/transfer/peer-content.ts'
import { BLOB, layer, makeParts, OPTIONS } from '../doubles/http-peers.ts'
import { createMemoryStore } from '../doubles/memory-store.ts'
import { type MemoryNode, MemorySwarm } from '../doubles/memory-swarm.ts'
import { never } from '../fixtures/layout.ts'
import { within } from '../fixtures/wait.ts'

/** Milliseconds for which a pull may be held up, with a reserve for a busy machine. */
const BOUND = 15_000
const LIARS = 12

/** An address at which nothing listens and no member is. */
const nobody = (number: number): Peer => ({ host: '127.0.0.1', port: 60_000 + number })
const none: Placing = { kind: 'place', holders: [], held: 0, crowd: 0, isWhole: true }

/** The answer of a lying member to a question of a node. */
type Lie = (question: Question | undefined, from: Peer, self: Peer) => Uint8Array | undefined

const follow = (parent: (from: Peer, self: Peer) => Peer): Lie => {
  return (question, from, self) => {
    if (question?.kind === 'ask') return encode({ ...none, crowd: 9, parent: parent(from, self) })
    return question?.kind === 'state'
      ? encode({ kind: 'arriving', written: 0, size: layer.bytes.length, leads: true })
      : encode({ kind: 'told' })
  }
}
let named = 0

const LIES: readonly [what: string, lie: Lie][] = [
  ['says nothing', () => undefined],
  ['answers what is no message', () => Uint8Array.of(0xff, 0x00, 0x7b)],
  ['answers something else than was asked', () => encode({ kind: 'soon' })],
  ['names dead nodes as holders', () => encode({ ...none, held: 4, holders: [0, 1, 2, 3].map(nobody) })],
  ['names a dead node to follow', follow(() => nobody(0))],
  ['names another dead node to follow each time', follow(() => nobody(named++ % 500))],
  ['names whoever asks', follow((from) => from)],
  ['names itself, says that bytes are about to come, and has no door', follow((_, self) => self)],
  [
    'says for ever that it will be known in a moment',
    (question, from, self) =>
      question?.kind === 'state' ? encode({ kind: 'soon' }) : follow(() => self)(question, from, self),
  ],
]

/** A node that is no keeper of the digest; the liars are. */
function join(swarm: MemorySwarm): MemoryNode {
  for (let port = 1; ; port++) {
    const member = swarm.join({ host: '127.0.0.1', port })
    if (member.closest(digestKey(BLOB.digest), 2).every((keeper) => keeper.port !== port)) return member
    void member.close()
  }
}

for (const [what, lie] of LIES) {
  test(`a keeper that ${what} costs a pull a bounded time`, async () => {
    const swarm = new MemorySwarm()
    for (let port = 50_000; port < 50_000 + LIARS; port++) {
      const liar = swarm.join({ host: '127.0.0.1', port })
      liar.answer((question, from) => lie(readQuestion(question), from, liar.self))
    }
    const member = join(swarm)
    const { self } = member
    const parts = makeParts()
    const store = createMemoryStore()
    const metrics = createFlightMetrics(parts.metrics, () => flight.figures)
    const flight: NodeFlight = createNodeFlight(
      {
        members: member,
        router: member,
        store,
        self,
        holds: () => false,
        clock: systemClock,
        patientClock: systemClock,
        log: parts.log,
        metrics,
      },
      { lookupTimeout: 100, gives: true },
    )
    member.answer(flight.answerTo)
    const peers = createPeerContent({ ...parts, flight, address: addressOf(self) }, { ...OPTIONS, lookupTimeout: 100 })
    try {
      store.arrive(layer)
      const startedAt = performance.now()
      assert.equal(await within('a miss', peers.fetch({ target: BLOB, method: 'GET' }, never), BOUND), undefined)
      console.log(`${what}: ${(performance.now() - startedAt).toFixed(0)} ms`)
    } finally {
      flight.close()
      parts.client.close()
    }
  })
}
