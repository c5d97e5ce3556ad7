/**
 * A client fetches one blob in several chunks at a time, like containerd 2.1. Each request asks for everything from its offset
 * on, and the client drops it after its chunk, when more bytes have already gone into the buffers of its connection.
 */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { pipeline, Readable } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { withoutFlight } from '../../lib/flight/flight.ts'
import { digestKey } from '../../lib/oci/key.ts'
import { type ByteRange, formatContentRange, lengthOf, parseRange } from '../../lib/oci/range.ts'
import type { ByteSource } from '../../lib/platform/byte-source.ts'
import { createPeerContent } from '../../lib/transfer/peer-content.ts'
import { BLOB, bodyOf, counted, layer, makeParts, OPTIONS, startMember } from '../doubles/http-peers.ts'
import { MemorySwarm } from '../doubles/memory-swarm.ts'
import { digestOf } from '../fixtures/image.ts'
import { never } from '../fixtures/layout.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const MIB = 1024 * 1024
const CONTENT = randomBytes(48 * MIB)
const DIGEST = digestOf(CONTENT)
/** Bytes that the holder writes at a time. */
const PART = 64 * 1024
/** How many bytes the buffers of an unread connection take, and how many milliseconds a client takes to leave. */
const BUFFERS = 4 * MIB
const LEAVING = 20

/** A member that has the content, and counts what it sends. */
async function startHolder() {
  let sent = 0
  function* partsOf({ start, end }: ByteRange) {
    for (let at = start; at <= end; at += PART) {
      const part = CONTENT.subarray(at, Math.min(at + PART, end + 1))
      sent += part.length
      yield part
    }
  }
  const member = await startMember((incoming, outgoing) => {
    const requested = parseRange(incoming.headers.range ?? null, CONTENT.length)
    assert.ok(requested.kind === 'part')
    outgoing.writeHead(206, {
      'content-type': layer.descriptor.mediaType,
      'docker-content-digest': DIGEST,
      'content-length': lengthOf(requested.range),
      'content-range': formatContentRange(requested.range, CONTENT.length),
    })
    // A client that leaves is no failure.
    pipeline(Readable.from(partsOf(requested.range)), outgoing, () => undefined)
  })
  return { peer: member.peer, sent: () => sent, close: () => member.close() }
}

/** Reads as much as the buffers of a connection take whose client is about to leave. */
async function fill(body: ByteSource): Promise<void> {
  for (let taken = 0; taken < BUFFERS; ) {
    const bytes = await body.next()
    if (bytes === undefined) return
    taken += bytes.length
  }
}

// containerd fetches three chunks at a time, of one layer or of three. How many times the content may be sent is the last number.
for (const [chunk, parallel, waste] of [
  [MIB, 3, 1.3],
  [MIB, 1, 1.3],
  // 1.1 to 1.3 are usual: what containerd does not take of a chunk is lost, and chunks are a sixth of the whole.
  [8 * MIB, 3, 1.5],
] as const) {
  test(`fetch reads chunks of ${chunk / MIB} MiB, ${parallel} at a time, from one transfer, of which little is lost`, async () => {
    const holder = await startHolder()
    const parts = makeParts()
    const swarm = new MemorySwarm()
    swarm.join(holder.peer).advertise([digestKey(DIGEST)])
    const peers = createPeerContent(
      { ...parts, flight: withoutFlight(swarm.join({ host: '127.0.0.1', port: 1 })) },
      OPTIONS,
    )
    const target = { ...BLOB, digest: DIGEST }
    let next = 0
    const worker = async () => {
      for (let start = next; start < CONTENT.length; start = next) {
        next += chunk
        const end = Math.min(start + chunk, CONTENT.length)
        const body = bodyOf(await peers.fetch({ target, method: 'GET', range: `bytes=${start}-` }, never))
        for (let at = start; at < end; ) {
          const bytes = (await body.next()) ?? assert.fail(`no byte at ${at}`)
          assert.ok(CONTENT.subarray(at, at + bytes.length).equals(bytes), `wrong at ${at}`)
          at += bytes.length
        }
        const filled = fill(body).catch(() => undefined)
        await Promise.race([filled, delay(LEAVING)])
        await body.cancel()
        await filled
      }
    }
    await within('all chunks', Promise.all(Array.from({ length: parallel }, worker)))
    await waitFor('the end of all transfers', async () => (await counted(parts.metrics, 'transfers_running')) === 0)
    parts.client.close()
    await holder.close()
    assert.ok(holder.sent() < waste * CONTENT.length, `${holder.sent()} bytes were sent`)
  })
}
