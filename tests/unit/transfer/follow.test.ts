import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Transferred } from '../../../lib/observe/activity.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { digestKey } from '../../../lib/oci/key.ts'
import { addressOf } from '../../../lib/platform/address.ts'
import { type Clock, systemClock } from '../../../lib/platform/clock.ts'
import { createPeerContent } from '../../../lib/transfer/peer-content.ts'
import { startPeer, type TestPeer } from '../../doubles/http-peer.ts'
import { BLOB, bodyOf, contentOf, counted, layer, makeParts, OPTIONS, read } from '../../doubles/http-peers.ts'
import type { MemoryWriter } from '../../doubles/memory-arrival.ts'
import { createMemoryStore, type MemoryStore } from '../../doubles/memory-store.ts'
import { ScriptedFlight } from '../../doubles/scripted-flight.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const BYTES = Buffer.from(layer.bytes)
const HALF = 125_000
const GET = { target: BLOB, method: 'GET' } as const

interface Node {
  readonly store: MemoryStore
  /** Writes the layer. */
  readonly writer: MemoryWriter
  readonly arriving: TestPeer['peer'] & { readonly isArriving: true }
  readonly address: string
}

/** Runs `use` with nodes that are getting the layer and have the given numbers of bytes, and with a follower. */
async function withNodes(
  written: readonly number[],
  use: (setting: Awaited<ReturnType<typeof makeSetting>>) => Promise<void>,
  content = layer,
): Promise<void> {
  const setting = await makeSetting(written, content)
  try {
    await use(setting)
  } finally {
    setting.client.close()
    for (const { close } of setting.started) await close()
  }
}

async function makeSetting(written: readonly number[], content: typeof layer) {
  const parts = makeParts()
  const flight = new ScriptedFlight()
  const started: TestPeer[] = []
  const nodes: Node[] = []
  for (const bytes of written) {
    const store = createMemoryStore()
    const writer = store.arrive(content)
    writer.write(bytes)
    const node = await startPeer(store)
    started.push(node)
    const address = addressOf(node.peer)
    flight.peers.set(address, store)
    nodes.push({ store, writer, address, arriving: { ...node.peer, isArriving: true } })
  }
  const told = new Set<Transferred>()
  const onTransfer = (_: unknown, transfer: Transferred) => void told.add(transfer)
  const peers = createPeerContent({ ...parts, flight, address: '127.0.0.1:1', onTransfer }, OPTIONS)
  const node = (index: number) => nodes[index] ?? assert.fail('no such node')
  return { ...parts, flight, started, node, peers, told }
}

/** Reads at least `count` bytes. */
async function readSome(body: ReturnType<typeof bodyOf>, least: number): Promise<Buffer> {
  const received: Uint8Array[] = []
  while (Buffer.concat(received).length < least) {
    const chunk = await within('the next bytes', body.next())
    assert.ok(chunk !== undefined)
    received.push(new Uint8Array(chunk))
  }
  return Buffer.concat(received)
}

test('fetch returns content that a peer is getting, while the peer gets it', async () => {
  await withNodes([HALF], async ({ peers, flight, node, metrics }) => {
    flight.found.push([node(0).arriving])
    const body = bodyOf(await within('an answer', peers.fetch(GET, never)))
    const first = await readSome(body, HALF)
    assert.deepEqual(first, BYTES.subarray(0, HALF))
    const rest = read(body)
    node(0).writer.write(200_000)
    node(0).writer.commit()
    assert.deepEqual(Buffer.concat([first, await within('the rest', rest)]), BYTES)
    assert.deepEqual([flight.asked, flight.leftOnes, flight.missedOnes], [1, [], []])
    assert.equal(await counted(metrics, 'transfers_total', 'outcome="complete"'), 1)
  })
})

test('fetch makes no claim for a client that only asks whether the content exists', async () => {
  await withNodes([HALF], async ({ peers, flight, node }) => {
    flight.found.push([node(0).arriving])
    assert.equal(await within('an answer', peers.fetch({ ...GET, method: 'HEAD' }, never)), undefined)
    assert.deepEqual([flight.asked, flight.missedOnes], [0, []])
  })
})

test('fetch looks again when a client has waited for verified content', async () => {
  await withNodes([layer.bytes.length], async ({ peers, flight, node }) => {
    flight.found.push([], [node(0).arriving])
    flight.verifies = true
    node(0).writer.commit()
    assert.deepEqual(await contentOf(await within('an answer', peers.fetch(GET, never))), BYTES)
    assert.deepEqual([flight.asked, flight.missedOnes], [2, []])
  })
})

test('fetch waits for the first byte of a peer that has none yet', async () => {
  await withNodes([0], async ({ peers, flight, node }) => {
    flight.found.push([node(0).arriving])
    const answer = peers.fetch(GET, never)
    await waitFor('it follows', () => flight.asked === 1)
    node(0).writer.commit()
    assert.deepEqual(await contentOf(await within('an answer', answer)), BYTES)
  })
})

test('fetch continues at its byte from a better peer to follow, and from another one if that refuses', async () => {
  await withNodes([HALF, HALF + 1, HALF + 2], async ({ peers, flight, node, metrics, told }) => {
    flight.found.push([node(0).arriving])
    const body = bodyOf(await within('an answer', peers.fetch(GET, never)))
    const first = await readSome(body, HALF)
    flight.betterOne = node(1).arriving
    const second = await readSome(body, 1)
    assert.deepEqual(Buffer.concat([first, second]), BYTES.subarray(0, HALF + 1))
    const attempts = [...told].flatMap((transfer) => transfer.attempts)
    assert.deepEqual(
      attempts.map(({ peer, ended }) => [peer, ended]),
      [
        [node(0).address, 'moved'],
        [node(1).address, undefined],
      ],
    )
    node(2).writer.write(200_000)
    // That node has no more bytes.
    flight.betterOne = node(0).arriving
    flight.found.push([node(2).arriving])
    const third = await readSome(body, 1)
    node(2).writer.commit()
    assert.deepEqual(Buffer.concat([first, second, third, await within('the rest', read(body))]), BYTES)
    assert.deepEqual(flight.leftOnes, [node(0).address])
    assert.equal(await counted(metrics, 'transfers_total', 'outcome="complete"'), 1)
  })
})

test('fetch continues at its byte from a better peer that has everything by now', async () => {
  await withNodes([HALF, HALF], async ({ peers, flight, node, told }) => {
    flight.found.push([node(0).arriving])
    const body = bodyOf(await within('an answer', peers.fetch(GET, never)))
    const first = await readSome(body, HALF)
    node(1).writer.commit()
    const { isArriving: _, ...holder } = node(1).arriving
    flight.betterOne = holder
    assert.deepEqual(Buffer.concat([first, await within('the rest', read(body))]), BYTES)
    const attempts = [...told].flatMap((transfer) => transfer.attempts)
    assert.deepEqual(
      attempts.map(({ peer, bytes, isArriving, ended }) => [peer, bytes, isArriving, ended]),
      [
        [node(0).address, HALF, true, 'moved'],
        [node(1).address, BYTES.length - HALF, undefined, undefined],
      ],
    )
    assert.deepEqual(flight.leftOnes, [])
  })
})

test('fetch continues from another peer that is getting the content when one gives up', async () => {
  await withNodes([HALF, HALF + 1], async ({ peers, flight, node, metrics, told }) => {
    flight.found.push([node(0).arriving], [node(1).arriving])
    const body = bodyOf(await within('an answer', peers.fetch(GET, never)))
    const first = await readSome(body, HALF)
    const rest = read(body)
    node(0).writer.abort()
    node(1).writer.commit()
    assert.deepEqual(Buffer.concat([first, await within('the rest', rest)]), BYTES)
    assert.deepEqual(flight.leftOnes, [node(0).address])
    assert.equal(await counted(metrics, 'transfer_resumes_total'), 1)
    const attempts = [...told].flatMap((transfer) => transfer.attempts)
    assert.deepEqual(
      attempts.map(({ peer, bytes, isArriving, ended }) => [peer, bytes, isArriving, ended]),
      [
        [node(0).address, HALF, true, 'gone'],
        // It has the whole layer by now.
        [node(1).address, BYTES.length - HALF, undefined, undefined],
      ],
    )
  })
})

test('fetch continues from holders of the content when a peer that was getting it gives up', async () => {
  await withNodes([HALF, 0], async ({ peers, flight, node }) => {
    const { isArriving: _, ...holder } = node(1).arriving
    node(1).writer.commit()
    flight.found.push([node(0).arriving], [holder])
    const body = bodyOf(await within('an answer', peers.fetch(GET, never)))
    const first = await readSome(body, HALF)
    const rest = read(body)
    node(0).writer.abort()
    assert.deepEqual(Buffer.concat([first, await within('the rest', rest)]), BYTES)
  })
})

test('fetch ends the body where a peer gives up that nobody replaces, and has no answer to later requests', async () => {
  await withNodes([HALF, HALF], async ({ peers, flight, node }) => {
    // The second node is not ahead, so it may be waiting for this very node.
    flight.found.push([node(0).arriving], [node(1).arriving])
    const received: Uint8Array[] = []
    const body = read(bodyOf(await within('an answer', peers.fetch(GET, never))), received)
    await waitFor('half of it is there', () => Buffer.concat(received).length === HALF)
    node(0).writer.abort()
    await assert.rejects(within('the end', body))
    assert.deepEqual(Buffer.concat(received), BYTES.subarray(0, HALF))
    assert.deepEqual(flight.leftOnes, [node(0).address, node(1).address])
    assert.deepEqual(flight.missedOnes, [])
    assert.equal(await peers.fetch({ ...GET, range: `bytes=${HALF}-` }, never), undefined)
    assert.deepEqual(flight.missedOnes, [BLOB.digest])
  })
})

test('fetch treats a peer that has just got all of the content like every other holder', async () => {
  await withNodes([0], async ({ peers, flight, node }) => {
    node(0).writer.commit()
    flight.found.push([node(0).arriving])
    assert.deepEqual(await contentOf(await within('an answer', peers.fetch(GET, never))), BYTES)
  })
})

test('fetch asks a peer once more that has just completed the content, and did not hold it yet', async () => {
  await withNodes([0], async ({ peers, flight, node }) => {
    node(0).writer.abort()
    flight.found.push([node(0).arriving])
    let asked = 0
    flight.state = async () => {
      if (++asked === 1) return { kind: 'arriving', written: 0, size: BYTES.length, leads: true }
      node(0).store.add(layer)
      return { kind: 'held' }
    }
    assert.deepEqual(await contentOf(await within('an answer', peers.fetch(GET, never))), BYTES)
    assert.deepEqual(flight.leftOnes, [])
  })
})

test('fetch leaves a peer that is gone, or does not answer', async () => {
  for (const state of [{ kind: 'gone' } as const, undefined]) {
    await withNodes([HALF], async ({ peers, flight, node }) => {
      flight.peers.set(node(0).address, state)
      flight.found.push([node(0).arriving])
      assert.equal(await within('a miss', peers.fetch(GET, never)), undefined)
      assert.deepEqual([flight.leftOnes, flight.missedOnes], [[node(0).address], [BLOB.digest]])
    })
  }
})

test('fetch asks nothing more of a peer that falls silent while fetch follows it', async () => {
  await withNodes([HALF, HALF + 1], async ({ peers, flight, node, metrics }) => {
    const { isArriving, ...silent } = node(0).arriving
    flight.found.push([node(0).arriving], [silent, node(1).arriving])
    const body = bodyOf(await within('an answer', peers.fetch(GET, never)))
    const first = await readSome(body, HALF)
    const rest = read(body)
    flight.peers.set(node(0).address, undefined)
    node(1).writer.commit()
    assert.deepEqual(Buffer.concat([first, await within('the rest', rest)]), BYTES)
    assert.deepEqual(flight.leftOnes, [node(0).address])
    assert.equal(await counted(metrics, 'peer_requests_total', 'outcome="missing"'), 0)
  })
})

test('fetch asks the flight again when the peer that it names has nothing to give', async () => {
  await withNodes([0, HALF], async ({ peers, flight, node }) => {
    flight.peers.set(node(0).address, { kind: 'gone' })
    flight.found.push([node(0).arriving], [node(1).arriving])
    const body = bodyOf(await within('an answer', peers.fetch(GET, never)))
    node(1).writer.commit()
    assert.deepEqual(await within('all of it', read(body)), BYTES)
    assert.deepEqual([flight.asked, flight.leftOnes, flight.missedOnes], [2, [node(0).address], []])
  })
})

test('fetch asks the flight again when a peer gives up after a second, and not when it falls silent', async () => {
  for (const state of [{ kind: 'gone' } as const, undefined]) {
    await withNodes([HALF], async ({ flight, node, ...parts }) => {
      let skipped = 0
      const clock: Clock = { now: () => systemClock.now() + skipped, after: (ms, run) => systemClock.after(ms, run) }
      const peers = createPeerContent(
        { ...parts, flight, clock, address: '127.0.0.1:2', metrics: createMetrics() },
        OPTIONS,
      )
      const lost = { host: '127.0.0.1', port: 1, isArriving: true } as const
      flight.state = async (peer) => {
        if (peer.port !== lost.port) return ScriptedFlight.prototype.state.call(flight, peer, BLOB.digest)
        skipped += 1_500
        return state
      }
      flight.found.push([lost], [node(0).arriving])
      const answer = await within('an answer', peers.fetch(GET, never))
      assert.equal(answer?.kind, state && 'content')
      if (answer === undefined) return
      node(0).writer.commit()
      assert.deepEqual(await contentOf(answer), BYTES)
    })
  }
})

test('fetch asks the flight again when the peer for which it waits gives up, though the next one has no byte yet', async () => {
  await withNodes([0, 0], async ({ peers, flight, node, lines }) => {
    flight.found.push([node(0).arriving], [node(1).arriving])
    const answer = peers.fetch(GET, never)
    const follows = (count: number) => lines.filter(({ event }) => event === 'following').length === count
    await waitFor('it follows', () => follows(1))
    node(0).writer.abort()
    await waitFor('it follows another', () => follows(2))
    node(1).writer.commit()
    assert.deepEqual(await contentOf(await within('an answer', answer)), BYTES)
    assert.deepEqual([flight.leftOnes, flight.missedOnes], [[node(0).address], []])
  })
})

test('fetch does not ask a peer again that had nothing to give', async () => {
  await withNodes([0], async ({ peers, flight, node }) => {
    flight.peers.set(node(0).address, { kind: 'gone' })
    flight.found.push([node(0).arriving], [node(0).arriving], [node(0).arriving])
    assert.equal(await within('a miss', peers.fetch(GET, never)), undefined)
    assert.deepEqual([flight.asked, flight.leftOnes], [2, [node(0).address]])
  })
})

test('fetch asks the flight again when no holder has the content any more, so that one node leads and not all', async () => {
  const empty = await startPeer(createMemoryStore())
  try {
    await withNodes([0], async ({ peers, flight, node }) => {
      flight.found.push([empty.peer], [node(0).arriving])
      const answer = peers.fetch(GET, never)
      node(0).writer.commit()
      assert.deepEqual(await contentOf(await within('an answer', answer)), BYTES)
      assert.deepEqual([flight.asked, flight.leftOnes, flight.missedOnes], [2, [addressOf(empty.peer)], []])
    })
  } finally {
    await empty.close()
  }
})

test('fetch goes to the next peer when one already has a follower', async () => {
  await withNodes([HALF, 0], async ({ peers, flight, node, ...parts }) => {
    const metrics = createMetrics()
    const other = createPeerContent({ ...parts, flight, metrics, address: '127.0.0.1:2' }, OPTIONS)
    flight.found.push([node(0).arriving])
    const first = bodyOf(await within('an answer', other.fetch(GET, never)))
    flight.found.push([node(0).arriving], [node(1).arriving])
    const answer = peers.fetch(GET, never)
    await waitFor('it has left the first', () => flight.leftOnes.length === 1)
    node(1).writer.commit()
    assert.deepEqual(await contentOf(await within('an answer', answer)), BYTES)
    assert.deepEqual(flight.leftOnes, [node(0).address])
    await first.cancel()
  })
})

test('fetch never completes wrong content that a peer is getting, and does not follow it there again', async () => {
  const bytes = Uint8Array.from(layer.bytes)
  bytes[HALF + 5] = ~(bytes[HALF + 5] ?? 0)
  const wrong = { ...layer, bytes }
  await withNodes(
    [HALF],
    async ({ peers, flight, node, known }) => {
      flight.found.push([node(0).arriving])
      const received: Uint8Array[] = []
      const body = read(bodyOf(await within('an answer', peers.fetch(GET, never))), received)
      node(0).writer.write(BYTES.length)
      await assert.rejects(within('the end', body), /the bytes do not match/)
      assert.ok(Buffer.concat(received).length < BYTES.length)
      // Once it is complete there, its client has verified it.
      assert.ok(!known.isWrong(node(0).arriving, digestKey(BLOB.digest)))
      assert.deepEqual(flight.wrongOnes, [BLOB.digest])
      flight.found.push([node(0).arriving])
      assert.equal(await within('a miss', peers.fetch(GET, never)), undefined)
      assert.deepEqual(flight.leftOnes, [node(0).address], 'another one may be named')
    },
    wrong,
  )
})

test('fetch lets a client ask again when the flight says so, but not for a part', async () => {
  await withNodes([0], async ({ peers, flight, node }) => {
    flight.peers.set(node(0).address, { kind: 'later' })
    flight.returning = BYTES.length
    flight.found.push([node(0).arriving])
    assert.deepEqual(await within('an answer', peers.fetch(GET, never)), { kind: 'later', size: BYTES.length })
    // The node is not given up, because its turn will come.
    assert.deepEqual(flight.leftOnes, [])
    assert.equal(await within('a miss', peers.fetch({ ...GET, range: 'bytes=1-' }, never)), undefined)
  })
})

test('fetch blames a peer for wrong content that it holds by now as a holder', async () => {
  const bytes = Uint8Array.from(layer.bytes)
  bytes[HALF] = ~(bytes[HALF] ?? 0)
  await withNodes(
    [bytes.length],
    async ({ peers, flight, node, known }) => {
      node(0).writer.commit()
      flight.found.push([{ ...node(0).arriving, crowd: 3 }])
      await assert.rejects(read(bodyOf(await within('an answer', peers.fetch(GET, never)))))
      assert.equal(known.isWrong(node(0).arriving, digestKey(BLOB.digest)), true)
    },
    { ...layer, bytes },
  )
})

test('fetch lets a client ask again when the peer for which it waits says later that its turn has not come', async () => {
  await withNodes([0], async ({ peers, flight, node }) => {
    flight.peers.set(node(0).address, { kind: 'waiting', size: BYTES.length })
    flight.returning = BYTES.length
    flight.found.push([node(0).arriving])
    const answer = peers.fetch(GET, never)
    await waitFor('it is asked', () => flight.asked === 1)
    flight.peers.set(node(0).address, { kind: 'later' })
    assert.deepEqual(await within('an answer', answer), { kind: 'later', size: BYTES.length })
    assert.deepEqual(flight.leftOnes, [])
  })
})

test('fetch asks a peer that waits for its turn once if another one has given up', async () => {
  await withNodes([HALF, 0], async ({ peers, flight, node }) => {
    flight.peers.set(node(1).address, { kind: 'later' })
    const again = [node(1).arriving]
    flight.found.push([node(0).arriving], again, again, again)
    const received: Uint8Array[] = []
    const body = read(bodyOf(await within('an answer', peers.fetch(GET, never))), received)
    await waitFor('half of it is there', () => Buffer.concat(received).length === HALF)
    node(0).writer.abort()
    await assert.rejects(within('the end', body))
    assert.ok(flight.asked <= 3)
  })
})

test('fetch answers with the whole if a client asks for all of the arriving content as a part', async () => {
  // containerd 2 would ask for the other parts in parallel.
  await withNodes([HALF], async ({ peers, flight, node }) => {
    flight.found.push([node(0).arriving])
    const answer = await within('an answer', peers.fetch({ ...GET, range: 'bytes=0-' }, never))
    assert.ok(answer?.kind === 'content' && answer.range === undefined)
    node(0).writer.commit()
    assert.deepEqual(await contentOf(answer), BYTES)
  })
})

test('fetch leaves a peer at once that is not ahead of the wanted byte', async () => {
  await withNodes([HALF], async ({ flight, node, ...parts }) => {
    flight.found.push([node(0).arriving])
    // No timer ever fires: it waits for nothing.
    const clock: Clock = { now: () => systemClock.now(), after: () => () => undefined }
    const peers = createPeerContent(
      { ...parts, flight, clock, address: '127.0.0.1:2', metrics: createMetrics() },
      OPTIONS,
    )
    assert.equal(await within('a miss', peers.fetch({ ...GET, range: `bytes=${HALF}-` }, never)), undefined)
    assert.deepEqual(flight.leftOnes, [node(0).address])
  })
})
