/** Pieces of content from peers that are fast, slow or fail, in time that passes as fast as the machine can compute. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { PeerError } from '../../../lib/peers/error.ts'
import { KnownPeers } from '../../../lib/peers/known-peers.ts'
import type { Peer } from '../../../lib/swarm/router.ts'
import type { Span } from '../../../lib/transfer/piece.ts'
import { createPieces, type Pieces } from '../../../lib/transfer/pieces.ts'
import {
  type Behaviour,
  type NetworkOptions,
  SimulatedNetwork,
  type SimulatedPeer,
} from '../../doubles/simulated-network.ts'

const MB = 1_000_000
const CONTENT = randomBytes(120 * MB)
/** Bytes per millisecond of 10, 100, and 1000 Mbit/s. */
const [SLOW, USUAL, FAST] = [1_250, 12_500, 125_000]
const OPTIONS = { stallTimeout: 2_000, longestWait: 10_000 }

interface Setting {
  readonly network: SimulatedNetwork
  readonly pieces: Pieces
  /** What was told, without what was told of single bytes and pieces. */
  readonly told: readonly string[]
  /** Bytes by the names of the peers that sent them. */
  readonly given: ReadonlyMap<string, number>
  /** The peers that a search finds, in that order. */
  readonly order: SimulatedPeer[]
}

/** Pieces of the first bytes from peers with these rates, which are found in that order. */
function make(
  rates: readonly number[],
  span: Partial<Span> = {},
  options: NetworkOptions = {},
  ahead = Number.POSITIVE_INFINITY,
): Setting {
  const network = new SimulatedNetwork(CONTENT, options)
  const order = rates.map((rate, index) => network.add(String(index), rate))
  const told: string[] = []
  const given = new Map<string, number>()
  const nameOf = ({ host }: Peer) => network.peers.find(({ address }) => address.host === host)?.name ?? '?'
  const known = new KnownPeers(network.clock)
  const pieces: Pieces = createPieces(
    {
      ask: (peer, asked, signal) => network.ask(peer, asked, signal),
      candidate: async () => order.find(({ address }) => !pieces.uses(address))?.address,
      told: {
        gave: (peer, bytes) => {
          known.of(peer).gave()
          given.set(nameOf(peer), (given.get(nameOf(peer)) ?? 0) + bytes)
        },
        broke: (peer, { message, failure }) => {
          known.of(peer).failed(failure)
          told.push(`${nameOf(peer)} broke: ${message}`)
        },
        slow: (peer) => told.push(`${nameOf(peer)} slow`),
        resumed: (peer) => told.push(`${nameOf(peer)} goes on`),
      },
      known,
      ahead: () => ahead,
      clock: network.clock,
    },
    OPTIONS,
    { start: 0, end: 20 * MB, ...span },
  )
  return { network, pieces, told, given, order }
}

/** Reads to the end, and returns how many milliseconds that took. */
async function readAll(
  { network, pieces }: Setting,
  { start = 0, end = 20 * MB }: Partial<Span> = {},
): Promise<number> {
  const read = async () => {
    let offset = start
    for (let chunk = await pieces.next(); chunk !== undefined; chunk = await pieces.next()) {
      assert.ok(CONTENT.subarray(offset, offset + chunk.length).equals(chunk), `wrong at ${offset}`)
      offset += chunk.length
    }
    assert.equal(offset, end)
  }
  await network.clock.run(read())
  const ms = network.clock.now()
  await isOver(network)
  return ms
}

/** Checks that nothing is under way any more, and nothing waits. */
async function isOver(network: SimulatedNetwork): Promise<void> {
  await network.clock.pass(5)
  assert.deepEqual([network.open, network.clock.pending], [0, 0])
}

/** The time of a transfer of that size at that rate. */
const timeOf = (bytes: number, rate: number) => bytes / rate

test('Pieces gives every span, also those of one byte and of none', async () => {
  for (const span of [
    { start: 0, end: 0 },
    { start: 7, end: 7 },
    { start: 7, end: 8 },
    { start: 0, end: 256 * 1024 },
    { start: 5, end: 256 * 1024 + 6 },
    { start: 3 * MB, end: 9 * MB },
  ]) {
    await readAll(make([USUAL, USUAL], span), span)
  }
})

test('Pieces of one peer come as fast as it gives, with few requests, each for what is needed', async () => {
  for (const rate of [USUAL, FAST]) {
    const setting = make([rate], {}, { roundTrip: 2 })
    const ms = await readAll(setting)
    assert.ok(ms < timeOf(20 * MB, rate) * 1.06, `${ms} ms`)
    assert.ok(setting.network.requests <= 14, `${setting.network.requests} requests`)
    assert.deepEqual([setting.network.asked, setting.told], [20 * MB, []])
  }
})

test('Pieces are of whole bytes, whatever share of the memory they may take', async () => {
  const share = (16 * 1024 * 1024) / 3
  const setting = make([FAST], {}, {}, share)
  await readAll(setting)
  assert.deepEqual([setting.network.asked, setting.told], [20 * MB, []])
})

test('Pieces are requested one after the other if the memory for more is used up', async () => {
  const { network, pieces, told } = make([USUAL, USUAL, USUAL, USUAL], {}, {}, 300 * 1024)
  const read = async () => {
    while ((await pieces.next()) !== undefined) assert.ok(network.open <= 1)
  }
  await network.clock.run(read())
  assert.ok(network.clock.now() < timeOf(20 * MB, USUAL) * 1.1, `${network.clock.now()} ms`)
  assert.deepEqual([network.asked, told], [20 * MB, []])
})

test('Pieces of four peers come nearly four times as fast as of one', async () => {
  const span = { end: 120 * MB }
  const setting = make([USUAL, USUAL, USUAL, USUAL], span)
  const ms = await readAll(setting, span)
  assert.ok(timeOf(120 * MB, USUAL) / ms > 3.5, `${timeOf(120 * MB, USUAL) / ms} times`)
  assert.deepEqual([setting.network.asked, setting.told], [120 * MB, []])
  for (const bytes of setting.given.values()) assert.ok(bytes > 20 * MB, `${bytes} bytes`)
})

test('Pieces of three peers come nearly three times as fast as of one although a fourth one is slow', async () => {
  const span = { end: 120 * MB }
  for (const [rates, most] of [
    [[USUAL, USUAL, USUAL, SLOW], 2.5],
    [[USUAL, SLOW, USUAL, USUAL], 2.5],
    [[SLOW, USUAL, USUAL, USUAL], 2.5],
  ] as const) {
    const setting = make(rates, span)
    const ms = await readAll(setting, span)
    assert.ok(timeOf(120 * MB, USUAL) / ms > most, `${timeOf(120 * MB, USUAL) / ms} times`)
    assert.deepEqual([setting.network.asked, setting.told], [120 * MB, []])
  }
})

test('Pieces come from one peer alone if it fills a link of 1 Gbit/s', async () => {
  const setting = make([FAST, FAST], { end: 120 * MB })
  await readAll(setting, { end: 120 * MB })
  assert.deepEqual([...setting.given.keys()], ['0'])
})

test('Pieces of a small blob come from one peer alone, with few requests', async () => {
  const setting = make([USUAL, USUAL, USUAL, USUAL], { end: 3 * MB })
  const ms = await readAll(setting, { end: 3 * MB })
  assert.deepEqual([...setting.given.keys()], ['0'])
  assert.ok(setting.network.requests <= 5, `${setting.network.requests} requests`)
  assert.ok(ms < timeOf(3 * MB, USUAL) * 1.06, `${ms} ms`)
})

test('Pieces come from one peer alone for a client that does not keep up with it', async () => {
  const { network, pieces, given } = make([USUAL, USUAL], { end: 8 * MB })
  const read = async () => {
    while ((await pieces.next()) !== undefined) {
      await network.clock.sleep(50)
    }
  }
  await network.clock.run(read())
  assert.deepEqual([...given.keys()], ['0'])
})

/** What happens to one of two peers while both give, and what is told of it. */
const FAULTS: readonly [what: string, behaviour: Behaviour, told: RegExp][] = [
  ['falls silent', 'silent', /0 broke: no byte within 300 ms/],
  ['ends its connections', 'refuses', /0 broke: the connection broke/],
  ['ends its bodies early', 'short', /0 broke: the body ended \d+ bytes early/],
  ['does not have it any more', 'missing', /^/],
  ['has too much to do', 'busy', /^/],
]

for (const [what, behaviour, expected] of FAULTS) {
  test(`Pieces lose less than half a second when one of two peers ${what}`, async () => {
    // What the asker takes is what one of them gives, so that nothing else is lost with it.
    const link = 20_000
    const span = { end: 40 * MB }
    const undisturbed = await readAll(make([link, link], span, { link }), span)
    const setting = make([link, link], span, { link })
    const [first = assert.fail()] = setting.order
    setting.network.clock.after(500, () => setting.network.set(first, behaviour))
    const ms = await readAll(setting, span)
    assert.ok(ms < undisturbed + 500, `${ms} ms instead of ${undisturbed}`)
    assert.match(setting.told.join('\n'), expected)
    assert.ok(setting.network.sent < 44 * MB, `${setting.network.sent} bytes`)
  })
}

test('Pieces lose little more than half a second when one of two peers becomes slow', async () => {
  const link = 20_000
  const span = { end: 40 * MB }
  const times: number[] = []
  // How much depends on the place in a piece.
  for (const at of [450, 500, 550, 600, 650, 700, 750]) {
    const setting = make([link, link], span, { link })
    const [first = assert.fail()] = setting.order
    setting.network.clock.after(at, () => {
      first.rate = 200
    })
    times.push(await readAll(setting, span))
    assert.match(setting.told.join('\n'), /0 slow/)
  }
  const [, , , median = assert.fail()] = times.sort((a, b) => a - b)
  assert.ok(median < timeOf(40 * MB, link) + 650, `${times} ms`)
})

test('Pieces wait for the only peer when it stalls for a moment', async () => {
  const setting = make([USUAL])
  const [only = assert.fail()] = setting.order
  setting.network.clock.after(500, () => setting.network.set(only, 'silent'))
  setting.network.clock.after(2_000, () => setting.network.set(only, 'gives'))
  await readAll(setting)
  assert.deepEqual([setting.network.asked, setting.told], [20 * MB, []])
})

test('Pieces continue with a stalled peer when its replacement has nothing', async () => {
  const setting = make([USUAL], {}, { roundTrip: 20 })
  const { network, order, told } = setting
  const [only = assert.fail()] = order
  network.clock.after(1_050, () => order.push(network.add('other', USUAL, 'missing')))
  network.clock.after(1_100, () => network.set(only, 'silent'))
  // It is itself again before it is asked once more.
  for (let ms = 1_100; ms < 1_500; ms++)
    network.clock.after(ms, () => told.includes('other goes on') && network.set(only, 'gives'))
  await readAll(setting)
  assert.deepEqual(told, ['0 broke: no byte within 300 ms', 'other goes on', '0 goes on'])
})

test('Pieces end at exactly the byte from which nobody gives any, in bounded time', async () => {
  for (const [behaviour, most] of [
    ['silent', 7_000],
    ['refuses', 1_000],
    ['missing', 1_000],
    ['busy', 11_000],
  ] as const) {
    // A busy peer may ask for any time.
    const setting = make([USUAL, USUAL], {}, { retryAfter: 1_000_000_000 })
    const { network, pieces, order } = setting
    network.clock.after(500, () => {
      for (const peer of order) network.set(peer, behaviour)
    })
    let offset = 0
    const read = async () => {
      for (let chunk = await pieces.next(); chunk !== undefined; chunk = await pieces.next()) offset += chunk.length
    }
    await assert.rejects(network.clock.run(read()), (error) => {
      assert.ok(error instanceof PeerError)
      assert.equal(error.message, `no peer left for the bytes from ${offset} on`)
      return true
    })
    assert.ok(network.clock.now() < 500 + most, `${behaviour}: ${network.clock.now()} ms`)
    await pieces.cancel()
    await isOver(network)
  }
})

test('Pieces do not count the end of a piece as a sign of life while the next one does not come', async () => {
  for (let after = 400; after < 1_500; after += 25) {
    const { network, pieces, order } = make([SLOW], {}, { roundTrip: 250 })
    const [only = assert.fail()] = order
    network.clock.after(after, () => network.set(only, 'silent'))
    const read = async () => {
      while ((await pieces.next()) !== undefined);
    }
    await assert.rejects(network.clock.run(read()), PeerError)
    assert.ok(network.clock.now() < after + 7_000, `silent after ${after} ms: ${network.clock.now()} ms`)
    await isOver(network)
  }
})

test('Pieces ask a busy peer again when it says, if there is no other', async () => {
  const setting = make([USUAL])
  const [only = assert.fail()] = setting.order
  setting.network.clock.after(500, () => setting.network.set(only, 'busy'))
  setting.network.clock.after(1_000, () => setting.network.set(only, 'gives'))
  const ms = await readAll(setting)
  assert.ok(ms < timeOf(20 * MB, USUAL) + 1_500, `${ms} ms`)
})

test('Pieces leave nothing when they are cancelled, whatever they wait for', async () => {
  for (const [behaviour, before] of [
    ['gives', 10],
    ['silent', 0],
    ['silent', 300],
  ] as const) {
    const { network, pieces, order } = make([USUAL, USUAL])
    const read = async () => {
      while ((await pieces.next()) !== undefined);
    }
    network.clock.after(before, () => {
      for (const peer of order) network.set(peer, behaviour)
    })
    network.clock.after(before + 100, () => void pieces.cancel())
    await assert.rejects(network.clock.run(read()), /cancelled/)
    await assert.rejects(pieces.next(), /cancelled/)
    await isOver(network)
  }
})

/** The helping peer is slow on a shared link, and is tried again just when the other one falls silent. */
const AT_ONCE = {
  ...{ rates: [50_000], size: 4_456_448, isHelped: true, ahead: Number.POSITIVE_INFINITY },
  ...({ link: 5_000, pause: 0 } as const),
  faults: [{ at: 106, peer: 0, behaviour: 'silent', rate: 300 } as const],
}

test('Pieces give the right bytes or end, ask for little more than they need and read no more than they give, whatever happens', async () => {
  const BUFFER = 256 * 1024
  const rate = fc.constantFrom(300, SLOW, USUAL, 50_000)
  const fault = fc.record({
    at: fc.nat(2_000),
    peer: fc.nat(4),
    behaviour: fc.constantFrom<Behaviour>('gives', 'gives', 'silent', 'refuses', 'short', 'missing', 'busy'),
    rate,
  })
  const scene = fc.record({
    rates: fc.array(rate, { minLength: 1, maxLength: 5 }),
    faults: fc.array(fault, { maxLength: 8 }),
    size: fc.integer({ min: 1, max: 6 * MB }),
    link: fc.constantFrom(5_000, 40_000, 1_000_000),
    pause: fc.constantFrom(0, 0, 5, 400),
    isHelped: fc.boolean(),
    ahead: fc.constantFrom(Number.POSITIVE_INFINITY, 1_000_000, 0),
  })
  await fc.assert(
    fc.asyncProperty(scene, async ({ rates, faults, size, link, pause, isHelped, ahead }) => {
      // The last peer always sends.
      const all = isHelped ? [...rates, USUAL] : rates
      const { network, pieces, order } = make(all, { end: size }, { link, buffer: BUFFER }, ahead)
      const { clock } = network
      for (const { at, peer, behaviour, rate: to } of faults) {
        const hit = peer < rates.length ? order[peer] : undefined
        if (hit === undefined) continue
        clock.after(at, () => {
          hit.rate = to
          network.set(hit, behaviour)
        })
      }
      let offset = 0
      const read = async () => {
        for (let chunk = await pieces.next(); chunk !== undefined; chunk = await pieces.next()) {
          assert.ok(CONTENT.subarray(offset, offset + chunk.length).equals(chunk))
          offset += chunk.length
          // The piece that is read, and at most one that is to take its place.
          assert.ok(network.begun <= 2, `${network.begun} bodies are read`)
          if (pause > 0) await clock.sleep(pause)
        }
        return true
      }
      const complete = await clock.run(read().catch((error) => error instanceof PeerError && false))
      if (complete) assert.equal(offset, size)
      else {
        assert.ok(offset < size)
        assert.equal(isHelped, false)
      }
      await pieces.cancel()
      // What waited in the buffers of two connections when a peer was given up, and what was asked for twice.
      const most = offset * 1.05 + 2 * 1024 * 1024 + (all.length + faults.length) * 2 * BUFFER
      assert.ok(network.sent <= most, `${network.sent} bytes were sent for ${offset}`)
      // What is to happen to peers happens whether they give or not.
      await clock.pass(5_000)
      await isOver(network)
    }),
    { numRuns: 50, examples: [[AT_ONCE]] },
  )
})
