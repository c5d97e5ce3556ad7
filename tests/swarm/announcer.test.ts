import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { silentLogger } from '../../lib/observe/log.ts'
import type { Key } from '../../lib/oci/key.ts'
import { Announcer, type AnnouncerOptions } from '../../lib/swarm/announcer.ts'
import { never } from '../fixtures/layout.ts'
import { createLogRecorder } from '../fixtures/log.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const key = (name: string | number): Key => `${name}` as Key
const keys = (...names: (string | number)[]): Key[] => names.map(key)

/** Periods that never come about in a test. */
const CALM: AnnouncerOptions = { refreshPeriod: 3_600_000, retryDelay: [3_600_000, 3_600_000], tick: 10 }

interface Operation {
  readonly kind: 'announce' | 'unannounce'
  readonly key: Key
  finish(): void
  fail(error: Error): void
}

/** A swarm whose operations end when the test says so, or by themselves as `answer` says. */
function recordedSwarm(answer?: (operation: Operation) => void) {
  const operations: Operation[] = []
  const announced = new Set<Key>()
  const running = new Map<Key, number>()
  const problems: string[] = []
  const start = (kind: Operation['kind']) => (operated: Key) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const count = (running.get(operated) ?? 0) + 1
    running.set(operated, count)
    if (count > 1) problems.push(`${count} operations at once on ${operated}`)
    const end = () => running.set(operated, (running.get(operated) ?? 0) - 1)
    const operation: Operation = {
      kind,
      key: operated,
      finish() {
        end()
        if (kind === 'announce') announced.add(operated)
        else announced.delete(operated)
        resolve()
      },
      fail(error) {
        end()
        reject(error)
      },
    }
    operations.push(operation)
    answer?.(operation)
    return promise
  }
  return {
    operations,
    announced,
    problems,
    told: () => operations.map((operation) => `${operation.kind} ${operation.key}`),
    announcements: { announce: start('announce'), unannounce: start('unannounce') },
  }
}

/** Ends every operation well, a turn later. */
const atOnce = (operation: Operation) => setImmediate(() => operation.finish())

async function withAnnouncer(
  swarm: ReturnType<typeof recordedSwarm>,
  options: AnnouncerOptions,
  use: (announcer: Announcer) => Promise<void>,
): Promise<void> {
  const announcer = new Announcer(swarm.announcements, silentLogger, { ...CALM, ...options })
  try {
    await use(announcer)
    assert.deepEqual(swarm.problems, [])
  } finally {
    announcer.close()
  }
}

test('Announcer announces new keys at once, each once, and withdraws what is withdrawn', async () => {
  const swarm = recordedSwarm(atOnce)
  await withAnnouncer(swarm, {}, async (announcer) => {
    announcer.advertise(keys('a', 'b'))
    announcer.advertise(keys('b', 'c'))
    assert.equal(announcer.size, 3)
    await announcer.settled(never)
    assert.deepEqual(swarm.told(), ['announce a', 'announce b', 'announce c'])
    announcer.withdraw(keys('b', 'unknown'))
    await announcer.settled(never)
    assert.deepEqual(swarm.told().slice(3), ['unannounce b'])
    assert.deepEqual([...swarm.announced], keys('a', 'c'))
    assert.equal(announcer.size, 2)
  })
})

test('Announcer has no more operations under way than it may', async () => {
  const swarm = recordedSwarm()
  await withAnnouncer(swarm, { concurrency: 3 }, async (announcer) => {
    announcer.advertise(keys(1, 2, 3, 4, 5))
    assert.equal(swarm.operations.length, 3)
    swarm.operations[1]?.finish()
    await waitFor('the fourth begins', () => swarm.operations.length === 4)
    assert.equal(swarm.operations[3]?.key, key(4))
  })
})

test('Announcer does withdrawals and new keys before refreshes', async () => {
  const swarm = recordedSwarm()
  await withAnnouncer(swarm, { concurrency: 1 }, async (announcer) => {
    announcer.advertise(keys('old', 'older'))
    swarm.operations[0]?.finish()
    await waitFor('the second begins', () => swarm.operations.length === 2)
    swarm.operations[1]?.finish()
    await announcer.settled(never)
    announcer.refreshAll()
    announcer.advertise(keys('new'))
    announcer.withdraw(keys('older'))
    for (let at = 2; at < 5; at++) {
      await waitFor('the next begins', () => swarm.operations.length > at)
      swarm.operations[at]?.finish()
    }
    await announcer.settled(never)
    assert.deepEqual(swarm.told().slice(2), ['announce old', 'announce new', 'unannounce older'])
  })
})

test('Announcer takes back a key that is withdrawn while its announcement is under way, and only then', async () => {
  const swarm = recordedSwarm()
  await withAnnouncer(swarm, {}, async (announcer) => {
    announcer.advertise(keys('a'))
    announcer.withdraw(keys('a'))
    assert.equal(announcer.size, 0)
    assert.deepEqual(swarm.told(), ['announce a'])
    swarm.operations[0]?.finish()
    await waitFor('it is taken back', () => swarm.operations.length === 2)
    assert.deepEqual(swarm.told(), ['announce a', 'unannounce a'])
    swarm.operations[1]?.finish()
    await announcer.settled(never)
    assert.equal(swarm.announced.size, 0)
  })
})

test('Announcer takes back at once a key whose announcement fails after it was withdrawn', async () => {
  const swarm = recordedSwarm()
  await withAnnouncer(swarm, {}, async (announcer) => {
    announcer.advertise(keys('a'))
    announcer.withdraw(keys('a'))
    // Some nodes may have heard of it all the same.
    swarm.operations[0]?.fail(new Error('timeout'))
    await waitFor('it is taken back', () => swarm.operations.length === 2)
    assert.equal(swarm.operations[1]?.kind, 'unannounce')
  })
})

test('Announcer announces again a key that comes back while its withdrawal is under way', async () => {
  const swarm = recordedSwarm()
  await withAnnouncer(swarm, {}, async (announcer) => {
    announcer.advertise(keys('a'))
    swarm.operations[0]?.finish()
    await announcer.settled(never)
    announcer.withdraw(keys('a'))
    announcer.advertise(keys('a'))
    swarm.operations[1]?.finish()
    await waitFor('it is announced again', () => swarm.operations.length === 3)
    assert.deepEqual(swarm.told(), ['announce a', 'unannounce a', 'announce a'])
  })
})

test('Announcer refreshAll never has two operations on one key at a time', async () => {
  const swarm = recordedSwarm()
  await withAnnouncer(swarm, { concurrency: 4 }, async (announcer) => {
    announcer.advertise(keys('a', 'b', 'c', 'd', 'waiting'))
    announcer.refreshAll()
    announcer.refreshAll()
    assert.equal(swarm.operations.length, 4)
    for (let at = 0; at < 5; at++) {
      await waitFor('the next begins', () => swarm.operations.length > at)
      swarm.operations[at]?.finish()
    }
    await announcer.settled(never)
    assert.equal(swarm.operations.length, 5)
    announcer.refreshAll()
    await waitFor('all are announced again', () => swarm.operations.length === 9)
  })
})

test('Announcer repeats an announcement before it expires, again and again', async () => {
  const swarm = recordedSwarm(atOnce)
  await withAnnouncer(swarm, { refreshPeriod: 50 }, async (announcer) => {
    announcer.advertise(keys('a', 'b'))
    await waitFor('three rounds', () =>
      ['a', 'b'].every((name) => swarm.told().filter((t) => t.endsWith(name)).length >= 3),
    )
    assert.deepEqual(new Set(swarm.told()), new Set(['announce a', 'announce b']))
    announcer.withdraw(keys('a'))
    await announcer.settled(never)
    const before = swarm.told().filter((told) => told === 'announce a').length
    await waitFor('b goes on', () => swarm.told().lastIndexOf('announce b') > swarm.told().indexOf('unannounce a') + 2)
    assert.equal(swarm.told().filter((told) => told === 'announce a').length, before)
  })
})

test('Announcer tries a failed announcement and a failed withdrawal again, after a growing delay', async () => {
  for (const kind of ['announce', 'unannounce'] as const) {
    const times: number[] = []
    const swarm = recordedSwarm((operation) => {
      if (operation.kind !== kind || times.length === 4) {
        atOnce(operation)
        return
      }
      times.push(performance.now())
      setImmediate(() => operation.fail(new Error('nobody answers')))
    })
    const { log, lines } = createLogRecorder()
    const announcer = new Announcer(swarm.announcements, log, { ...CALM, retryDelay: [20, 60], tick: 5 })
    announcer.advertise(keys('a'))
    if (kind === 'unannounce') {
      await announcer.settled(never)
      announcer.withdraw(keys('a'))
    }
    await within('it is settled', announcer.settled(never))
    assert.equal(swarm.announced.has(key('a')), kind === 'announce')
    const delays = times.slice(1).map((time, index) => time - (times[index] ?? 0))
    for (const [index, least] of [20, 40, 60].entries()) {
      assert.ok((delays[index] ?? 0) >= least - 1, `${delays[index]} ms before attempt ${index + 2}`)
    }
    assert.equal(lines.length, 4)
    for (const [index, { level, fields }] of lines.entries()) {
      assert.equal(level, 'warn')
      assert.deepEqual([fields.key, fields.withdraw, fields.failures], ['a', kind === 'unannounce', index + 1])
    }
    announcer.close()
  }
})

test('Announcer settled waits for what is under way, for retries too, and throws when its signal aborts', async () => {
  const swarm = recordedSwarm()
  await withAnnouncer(swarm, {}, async (announcer) => {
    await announcer.settled(never)
    announcer.advertise(keys('a'))
    await assert.rejects(announcer.settled(AbortSignal.abort(new Error('too late'))), /too late/)
    const stop = new AbortController()
    const waiting = announcer.settled(stop.signal)
    stop.abort(new Error('not in time'))
    await assert.rejects(waiting, /not in time/)
    const settled = announcer.settled(never)
    swarm.operations[0]?.finish()
    await within('it is settled', settled)
  })
})

test('Announcer close begins nothing new, settles who waits and leaves no timer', async () => {
  const swarm = recordedSwarm()
  const announcer = new Announcer(swarm.announcements, silentLogger, { ...CALM, concurrency: 1, refreshPeriod: 20 })
  announcer.advertise(keys('a', 'b'))
  const settled = announcer.settled(never)
  announcer.close()
  await within('it is settled', settled)
  swarm.operations[0]?.finish()
  announcer.advertise(keys('c'))
  announcer.withdraw(keys('a'))
  announcer.refreshAll()
  // Longer than the period, the tick and the turn that an operation needs.
  await new Promise((resolve) => setTimeout(resolve, 60))
  assert.deepEqual(swarm.told(), ['announce a'])
  assert.equal(announcer.size, 0)
})

test('Announcer ends with exactly the wanted keys announced, whatever happens in between', async () => {
  const name = fc.constantFrom('a', 'b', 'c')
  const step = fc.oneof(
    name.map((of) => ({ kind: 'advertise' as const, of })),
    name.map((of) => ({ kind: 'withdraw' as const, of })),
    fc.constant({ kind: 'refresh' as const }),
    fc.nat(5).map((at) => ({ kind: 'finish' as const, at })),
    fc.nat(5).map((at) => ({ kind: 'fail' as const, at })),
    fc.constant({ kind: 'pause' as const }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.integer({ min: 1, max: 3 }), async (steps, concurrency) => {
      const open: Operation[] = []
      let over = false
      const swarm = recordedSwarm((operation) => {
        if (over) atOnce(operation)
        else open.push(operation)
      })
      const wanted = new Set<Key>()
      await withAnnouncer(swarm, { concurrency, retryDelay: [1, 1], tick: 1, refreshPeriod: 50 }, async (announcer) => {
        for (const taken of steps) {
          if (taken.kind === 'advertise') announcer.advertise([key(taken.of)])
          if (taken.kind === 'advertise') wanted.add(key(taken.of))
          if (taken.kind === 'withdraw') announcer.withdraw([key(taken.of)])
          if (taken.kind === 'withdraw') wanted.delete(key(taken.of))
          if (taken.kind === 'refresh') announcer.refreshAll()
          if (taken.kind === 'finish') open.splice(taken.at, 1)[0]?.finish()
          if (taken.kind === 'fail') open.splice(taken.at, 1)[0]?.fail(new Error('failed'))
          if (taken.kind === 'pause') await new Promise((resolve) => setImmediate(resolve))
        }
        over = true
        for (const operation of open) operation.finish()
        await within('it is settled', announcer.settled(never))
        assert.deepEqual(new Set(swarm.announced), wanted)
        assert.equal(announcer.size, wanted.size)
      })
    }),
    { numRuns: 150 },
  )
})
