import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import type { ProbeResult, UpstreamHost } from '../../../lib/upstream/probe.ts'
import { createUpstreams, type Upstreams } from '../../../lib/upstream/upstreams.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { never } from '../../fixtures/layout.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

const UP: ProbeResult = { state: 'answers', reason: 'it answers 401' }
const DOWN: ProbeResult = { state: 'silent', reason: 'connect ECONNREFUSED' }
const UNASKED: ProbeResult = { state: 'unasked', reason: 'a reserved address' }
const TIMEOUT = 1_000

interface Setting {
  readonly upstreams: Upstreams
  readonly clock: ManualClock
  /** The hosts that were probed, in order. */
  readonly probed: string[]
  readonly lines: ReturnType<typeof createLogRecorder>['lines']
  /** The result of every probe from now on; a promise is a slow probe. */
  result: ProbeResult | Promise<ProbeResult> | ((host: UpstreamHost) => ProbeResult)
  isKnown: boolean
  hosts: readonly string[]
  metric(): Promise<readonly (readonly [string, number])[]>
}

async function withUpstreams(use: (setting: Setting) => Promise<void>): Promise<void> {
  const clock = new ManualClock()
  const metrics = createMetrics()
  const { log, lines } = createLogRecorder()
  const probed: string[] = []
  const setting = { clock, probed, lines, result: UP, isKnown: true, hosts: ['https://one/v2'] } as unknown as Setting
  const find = async () => ({
    hosts: setting.hosts.map((url) => ({ url, isNamed: true })),
    isKnown: setting.isKnown,
  })
  const probe = async (host: UpstreamHost, isKnown: boolean) => {
    assert.equal(isKnown, setting.isKnown)
    probed.push(host.url)
    return await (typeof setting.result === 'function' ? setting.result(host) : setting.result)
  }
  const upstreams = createUpstreams({ find, probe, metrics, log, clock }, TIMEOUT)
  const metric = async () => {
    const { body } = metrics.render()
    const lines = body.matchAll(/^swarmirror_upstream_up\{registry="([^"]+)"\} (\d)$/gm)
    return [...lines].map(([, registry = '', up]) => [registry, Number(up)] as const)
  }
  Object.assign(setting, { upstreams, metric })
  try {
    await use(setting)
  } finally {
    upstreams.close()
    assert.equal(clock.pending, 0, 'timers after close')
  }
}

test('Upstreams probes for the first question, and gives the answer to all that ask meanwhile', () =>
  withUpstreams(async ({ upstreams, probed }) => {
    const asked = await Promise.all([1, 2, 3].map(() => upstreams.answers('r', never)))
    assert.deepEqual(asked, [true, true, true])
    assert.equal(await upstreams.answers('r', never), true)
    assert.deepEqual(probed, ['https://one/v2'])
  }))

test('Upstreams renews a state before it ends while clients ask for the registry, so that nobody waits', () =>
  withUpstreams(async (setting) => {
    const { upstreams, clock, probed } = setting
    await upstreams.answers('r', never)
    await clock.pass(9_000)
    assert.equal(probed.length, 2)
    // The next look hangs, and the old state counts meanwhile.
    const slow = Promise.withResolvers<ProbeResult>()
    setting.result = slow.promise
    await clock.pass(9_000)
    assert.equal(probed.length, 3)
    await clock.pass(5_000)
    assert.equal(await upstreams.answers('r', never), true)
    setting.result = DOWN
    slow.resolve(DOWN)
    await clock.pass(0)
    assert.equal(await upstreams.answers('r', never), false)
    // A silent registry is probed each second.
    const before = probed.length
    await clock.pass(3_000)
    assert.equal(probed.length, before + 3)
  }))

test('Upstreams lets a state lapse a minute after the last question, and the next question waits for a look', () =>
  withUpstreams(async (setting) => {
    const { upstreams, clock, probed } = setting
    await upstreams.answers('r', never)
    await clock.pass(80_000)
    const before = probed.length
    assert.ok(before < 10, `${before} probes`)
    await clock.pass(600_000)
    assert.equal(probed.length, before)
    assert.deepEqual(upstreams.states, [])
    setting.result = DOWN
    assert.equal(await upstreams.answers('r', never), false)
    assert.equal(probed.length, before + 1)
  }))

test('Upstreams: a registry that has answered is silent after two probes in a row, and answers after one', () =>
  withUpstreams(async (setting) => {
    const { upstreams, clock, probed, lines } = setting
    await upstreams.answers('r', never)
    // It flaps: every other probe fails.
    let up = true
    setting.result = () => {
      up = !up
      return up ? UP : DOWN
    }
    for (let look = 0; look < 5; look++) {
      await clock.pass(9_000)
      assert.equal(await upstreams.answers('r', never), true)
    }
    assert.equal(probed.length, 11)
    setting.result = DOWN
    await clock.pass(10_000)
    assert.equal(await upstreams.answers('r', never), false)
    const [state] = upstreams.states
    assert.deepEqual(
      [state?.registry, state?.state, state?.reason],
      ['r', 'silent', 'https://one: connect ECONNREFUSED'],
    )
    setting.result = UP
    await clock.pass(1_000)
    assert.equal(await upstreams.answers('r', never), true)
    const told = lines.map(({ level, event }) => [level, event])
    assert.deepEqual(told, [
      ['warn', 'upstream does not answer'],
      ['info', 'upstream answers again'],
    ])
  }))

test('Upstreams: a first question waits no longer than the timeout, and then the registry counts as silent', async () => {
  const metrics = createMetrics()
  const hanging = () => new Promise<ProbeResult>(() => undefined)
  const find = async () => ({ hosts: [{ url: 'https://one/v2', isNamed: true }], isKnown: true })
  const upstreams = createUpstreams({ find, probe: hanging, metrics, log: createLogRecorder().log }, 10)
  assert.equal(await upstreams.answers('r', never), false)
  const left = new AbortController()
  const waiting = upstreams.answers('r', left.signal)
  left.abort(new Error('the client left'))
  await assert.rejects(waiting, /the client left/)
  upstreams.close()
})

test('Upstreams asks the hosts in their order until one answers', () =>
  withUpstreams(async (setting) => {
    setting.hosts = ['https://one/v2', 'http://two:5000/v2', 'https://three']
    setting.result = ({ url }) => (url.includes('two') ? UP : DOWN)
    assert.equal(await setting.upstreams.answers('r', never), true)
    assert.deepEqual(setting.probed, ['https://one/v2', 'http://two:5000/v2'])
    assert.equal(setting.upstreams.states[0]?.reason, 'http://two:5000: it answers 401')
  }))

test('Upstreams: a first question does not take a silent host for the whole registry if the next host answers', async () => {
  for (const [states, expected] of [
    [['hangs', 'answers'], true],
    [['silent', 'hangs', 'answers'], true],
    [['hangs', 'silent'], false],
  ] as const) {
    const hosts = states.map((state) => ({ url: `https://${state}`, isNamed: true }))
    const find = async () => ({ hosts, isKnown: true })
    const probe = ({ url }: UpstreamHost, _isKnown: boolean, time: number, signal: AbortSignal) =>
      url === 'https://hangs' ? delay(time, DOWN, { signal }) : Promise.resolve(url === 'https://answers' ? UP : DOWN)
    const upstreams = createUpstreams({ find, probe, metrics: createMetrics(), log: createLogRecorder().log }, 200)
    assert.equal(await upstreams.answers('r', never), expected, states.join())
    upstreams.close()
  }
})

test('Upstreams leaves registries to upstream that may not be asked from here, or that have no host', () =>
  withUpstreams(async (setting) => {
    setting.hosts = ['https://one/v2', 'https://two/v2']
    setting.result = ({ url }) => (url.includes('two') ? UNASKED : DOWN)
    assert.equal(await setting.upstreams.answers('r', never), true)
    assert.equal(setting.upstreams.states[0]?.state, 'unasked')
    setting.hosts = []
    assert.equal(await setting.upstreams.answers('none', never), true)
  }))

test('Upstreams probes few registries that only a client names, and leaves the rest to upstream', () =>
  withUpstreams(async (setting) => {
    const { upstreams, clock, probed } = setting
    setting.isKnown = false
    setting.result = DOWN
    const ask = (from: number, count: number) =>
      Promise.all(Array.from({ length: count }, (_, index) => upstreams.answers(`r${from + index}`, never)))
    const first = await ask(0, 100)
    assert.equal(first.filter((answers) => !answers).length, 10)
    assert.equal(probed.length, 10)
    // Looks that renew their states are no more frequent.
    await clock.pass(10_000)
    assert.ok(probed.length <= 10 + 10_000 / 500, `${probed.length} probes`)
    setting.isKnown = true
    assert.equal(await upstreams.answers('known', never), false)
  }))

test('Upstreams keeps a bounded number of registries, those that were asked for last', () =>
  withUpstreams(async ({ upstreams }) => {
    for (let index = 0; index < 100; index++) await upstreams.answers(`r${index}`, never)
    const held = upstreams.states.map(({ registry }) => registry)
    assert.equal(held.length, 64)
    assert.equal(held.at(-1), 'r99')
  }))

test('swarmirror_upstream_up has the registries that this node names, as far as their state is known', () =>
  withUpstreams(async (setting) => {
    const { upstreams, clock, metric } = setting
    await upstreams.answers('up', never)
    setting.result = DOWN
    await upstreams.answers('down', never)
    setting.result = UNASKED
    await upstreams.answers('unasked', never)
    setting.isKnown = false
    await upstreams.answers('stranger', never)
    assert.deepEqual(await metric(), [
      ['up', 1],
      ['down', 0],
    ])
    await clock.pass(200_000)
    assert.deepEqual(await metric(), [])
  }))

test('Upstreams passes a failure to find the hosts to the caller, and forgets it', async () => {
  let failing = true
  const find = async () => {
    if (failing) throw new Error('a disk error')
    return { hosts: [{ url: 'https://one/v2', isNamed: true }], isKnown: true }
  }
  const { log, lines } = createLogRecorder()
  const clock = new ManualClock()
  const upstreams = createUpstreams({ find, probe: async () => UP, metrics: createMetrics(), log, clock }, TIMEOUT)
  await assert.rejects(upstreams.answers('r', never), /a disk error/)
  failing = false
  assert.equal(await upstreams.answers('r', never), true)
  failing = true
  await clock.pass(9_000)
  assert.deepEqual(
    lines.map(({ level, event }) => [level, event]),
    [['error', 'upstream cannot be probed']],
  )
  upstreams.close()
})

test('Upstreams that is closed ends the look under way, and begins no other', async () => {
  const ended = Promise.withResolvers<void>()
  const probe = (_host: UpstreamHost, _isKnown: boolean, _time: number, signal: AbortSignal) =>
    new Promise<ProbeResult>((_, reject) =>
      signal.addEventListener('abort', () => {
        ended.resolve()
        reject(signal.reason)
      }),
    )
  const find = async () => ({ hosts: [{ url: 'https://one/v2', isNamed: true }], isKnown: true })
  const clock = new ManualClock()
  const upstreams = createUpstreams(
    { find, probe, metrics: createMetrics(), log: createLogRecorder().log, clock },
    60_000,
  )
  const waiting = assert.rejects(upstreams.answers('r', never), /the upstreams are closed/)
  await clock.pass(0)
  upstreams.close()
  await Promise.all([ended.promise, waiting])
  assert.equal(clock.pending, 0)
})
