import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeReport, type Report } from '../../../../lib/containerd/check/report.ts'
import type { CheckResult } from '../../../../lib/containerd/check/run.ts'
import { createCheckWatch } from '../../../../lib/containerd/check/watch.ts'
import { ContainerdError, type ContainerdErrorCode } from '../../../../lib/containerd/client/error.ts'
import { HOSTS_FILES, type Looked, rememberingReader } from '../../../../lib/containerd/hosts/files.ts'
import { silentLogger } from '../../../../lib/observe/log.ts'
import { Readiness } from '../../../../lib/observe/readiness.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const HOUR = 3_600_000
const QUICK = { poll: 10, check: 0, failed: HOUR, away: 5 }

const PASSED = makeReport([{ id: 'one', severity: 'ok', seen: 'right', expected: '', why: '' }])
const FAILED = makeReport([{ id: 'two', severity: 'error', seen: 'it is wrong', expected: '', why: '' }])

const NOTHING: Looked = new Map()

/** The looks of a check that has read these paths. */
async function lookedAt(paths: readonly string[]): Promise<Looked> {
  const { reader, looked } = rememberingReader(HOSTS_FILES)
  for (const path of paths) await reader.real(path)
  return looked
}

/** What a check finds, the paths that it looks at, and what happens between that look and its end. */
type Found = Pick<CheckResult, 'report' | 'interrupted'> & {
  readonly paths: readonly string[]
  readonly afterLook: () => Promise<void>
}

/** A node to watch: the results of its checks, its containerd, and the number of checks. */
async function withWatch(
  options: Partial<typeof QUICK>,
  use: (node: {
    state: { result: Partial<Found>; identity: string; away: ContainerdErrorCode | undefined; checks: number }
    reports: readonly Report[]
    watch: ReturnType<typeof createCheckWatch>
    readiness: Readiness
  }) => Promise<void>,
  first: Partial<Found> = {},
  away: ContainerdErrorCode | undefined = undefined,
): Promise<void> {
  const state = { result: first, identity: 'uuid 1', away, checks: 0 }
  const reports: Report[] = []
  const readiness = new Readiness()
  const watch = createCheckWatch(
    {
      async run() {
        state.checks++
        const { paths = [], afterLook, ...result } = state.result
        const looked = await lookedAt(paths)
        await afterLook?.()
        return { report: PASSED, looked, interrupted: false, ...result }
      },
      async identify() {
        if (state.away !== undefined) throw new ContainerdError(state.away, 'nobody there')
        return state.identity
      },
      onReport: (report) => reports.push(report),
      readiness,
      log: silentLogger,
    },
    { ...QUICK, ...options },
  )
  try {
    await use({ state, reports, watch, readiness })
  } finally {
    await watch.close()
  }
}

test('watch gives a reason until the first check has passed', () =>
  withWatch({}, async ({ watch, reports, state, readiness }) => {
    assert.deepEqual(readiness.reasons, ['the configuration of containerd is not checked yet'])
    await waitFor('the first result', () => reports.length === 1)
    assert.deepEqual([readiness.reasons, watch.report, state.checks], [[], PASSED, 1])
  }))

test('watch reports the errors of a check in words', () =>
  withWatch(
    {},
    async ({ reports, readiness }) => {
      await waitFor('the first result', () => reports.length === 1)
      assert.deepEqual(readiness.reasons, ['check two: it is wrong'])
    },
    { report: FAILED },
  ))

test('watch waits for a containerd that does not run yet', () =>
  withWatch(
    {},
    async ({ state, reports, readiness }) => {
      await waitFor('the reason', () => readiness.reasons[0]?.includes('nobody there') === true)
      assert.equal(state.checks, 0)
      state.away = undefined
      await waitFor('the first result', () => reports.length === 1)
    },
    {},
    'unavailable',
  ))

for (const code of ['denied', 'unsupported', 'unexpected'] as const) {
  test(`watch does not wait if waiting cannot help: ${code}`, () =>
    withWatch({}, async ({ reports }) => void (await waitFor('a result', () => reports.length === 1)), {}, code))
}

test('watch checks again after a restart of containerd', () =>
  withWatch({}, async ({ state, reports, readiness }) => {
    await waitFor('the first result', () => reports.length === 1)
    state.away = 'unavailable'
    state.result = { report: FAILED }
    state.identity = 'uuid 2'
    state.away = undefined
    await waitFor('the second result', () => reports.length === 2)
    assert.deepEqual(readiness.reasons, ['check two: it is wrong'])
    assert.equal(state.checks, 2)
  }))

test('watch checks again after a file was written, replaced, made or removed, or a name was added to a directory', () =>
  withTemporaryDirectory(async (directory) => {
    const file = join(directory, 'config.toml')
    await writeFile(file, 'one')
    const paths = [file, join(directory, 'missing.toml'), directory]
    const changes = [
      () => writeFile(file, 'two'),
      async () => {
        await writeFile(`${file}.new`, 'two')
        await rename(`${file}.new`, file)
      },
      () => writeFile(join(directory, 'missing.toml'), ''),
      () => writeFile(join(directory, 'other'), ''),
    ]
    await withWatch(
      {},
      async ({ reports }) => {
        for (const [index, change] of changes.entries()) {
          await waitFor(`result ${index + 1}`, () => reports.length > index)
          const before = reports.length
          await change()
          await waitFor(`the result after change ${index + 1}`, () => reports.length > before)
        }
      },
      { paths },
    )
  }))

test('watch sees a change that happens during a check, after its look', () =>
  withTemporaryDirectory(async (directory) => {
    const file = join(directory, 'hosts.toml')
    await writeFile(file, 'one')
    let written = 0
    const afterLook = async () => {
      if (written++ === 0) await writeFile(file, 'another')
    }
    await withWatch({}, async ({ reports }) => void (await waitFor('the second result', () => reports.length === 2)), {
      paths: [file],
      afterLook,
    })
  }))

test('watch checks again although somebody never stops writing', () =>
  withTemporaryDirectory(async (directory) => {
    const file = join(directory, 'hosts.toml')
    let size = 0
    const writing = setInterval(() => writeFileSync(file, 'x'.repeat(++size)), 5)
    try {
      await withWatch(
        { poll: 100 },
        async ({ reports }) => void (await waitFor('the second result', () => reports.length === 2)),
        { paths: [file] },
      )
    } finally {
      clearInterval(writing)
    }
  }))

test('watch does not count the directories of probes as a change', () =>
  withTemporaryDirectory(async (directory) => {
    await withWatch(
      {},
      async ({ state, reports }) => {
        await waitFor('the first result', () => reports.length === 1)
        await writeFile(join(directory, 'probe-0123456789abcdef-5000.swarmirror.invalid'), '')
        await writeFile(join(directory, '.probe-0123456789abcdef-5000.swarmirror.invalid'), '')
        // The watch sees only what comes afterwards.
        await writeFile(join(directory, 'docker.io'), '')
        await waitFor('the second result', () => reports.length === 2)
        assert.equal(state.checks, 2)
      },
      { paths: [directory] },
    )
  }))

test('watch repeats a failed check after a while, although nothing has changed', () =>
  withWatch(
    { failed: 50 },
    async ({ state, reports, readiness }) => {
      await waitFor('the first result', () => reports.length >= 1)
      state.result = {}
      await waitFor('that it has passed', () => readiness.reasons.length === 0)
    },
    { report: FAILED },
  ))

test('watch does not count a result during which containerd went away', () =>
  withWatch(
    {},
    async ({ state, reports, watch }) => {
      await waitFor('some attempts', () => state.checks >= 3)
      assert.deepEqual([reports.length, watch.report], [0, undefined])
      state.result = {}
      await waitFor('a result', () => reports.length === 1)
    },
    { report: FAILED, interrupted: true },
  ))

test('watch counts such a result in the end, if there is never another', () =>
  withWatch(
    {},
    async ({ reports, readiness }) => {
      await waitFor('a result', () => reports.length === 1)
      assert.deepEqual(readiness.reasons, ['check two: it is wrong'])
    },
    { report: FAILED, interrupted: true },
  ))

test('watch says when a check itself fails, and checks again', async () => {
  let mistaken = true
  const reports: Report[] = []
  const readiness = new Readiness()
  const watch = createCheckWatch(
    {
      async run() {
        if (mistaken) throw new TypeError('a mistake')
        return { report: PASSED, looked: NOTHING, interrupted: false }
      },
      identify: async () => 'uuid',
      onReport: (report) => reports.push(report),
      readiness,
      log: silentLogger,
    },
    { ...QUICK, failed: 10 },
  )
  await waitFor('the reason', () => readiness.reasons[0] === 'the configuration could not be checked: a mistake')
  mistaken = false
  await waitFor('the result', () => reports.length === 1)
  assert.deepEqual(readiness.reasons, [])
  await watch.close()
})

test('watch says so when it cannot go on', async () => {
  const readiness = new Readiness()
  const watch = createCheckWatch(
    {
      run: async () => ({ report: PASSED, looked: NOTHING, interrupted: false }),
      identify: async () => 'uuid',
      onReport: () => {
        throw new TypeError('a mistake')
      },
      readiness,
      log: silentLogger,
    },
    QUICK,
  )
  await waitFor('the reason', () => readiness.reasons[0] === 'the configuration is no longer checked')
  await watch.close()
})
