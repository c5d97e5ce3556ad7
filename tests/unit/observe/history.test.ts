import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Counts, openHistory } from '../../../lib/observe/history.ts'
import { silentLogger } from '../../../lib/observe/log.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor } from '../../fixtures/wait.ts'

const NOTHING: Counts = { peer: 0, local: 0, upstream: 0, given: 0, failures: 0 }
const BAR = 600_000
const START = 3_000 * BAR

test('openHistory tells what happened in each bar, and forgets what is older than a day', async () => {
  let counts = NOTHING
  let now = START
  const history = await openHistory({ look: async () => counts, path: undefined, log: silentLogger, now: () => now })
  assert.deepEqual((await history.status()).bars, [])
  counts = { ...counts, peer: 10, failures: 1 }
  assert.deepEqual((await history.status()).bars, [[0, { ...NOTHING, peer: 10, failures: 1 }]])
  counts = { ...counts, peer: 15 }
  now += BAR
  // It happened before the end of the bar, and this is the bar's last look.
  await history.status()
  counts = { ...counts, given: 7 }
  const both = [
    [1, { ...NOTHING, peer: 15, failures: 1 }],
    [0, { ...NOTHING, given: 7 }],
  ]
  assert.deepEqual((await history.status()).bars, both)
  now += 142 * BAR
  await history.status()
  assert.equal((await history.status()).bars.length, 2)
  now += BAR
  assert.deepEqual((await history.status()).bars, [[143, { ...NOTHING, given: 7 }]])
  await history.close()
})

test('openHistory goes on after a restart if it has a file, with counts that begin at 0', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'history.json')
    let now = START
    const open = (peer: number) =>
      openHistory({ look: async () => ({ ...NOTHING, peer }), path, log: silentLogger, now: () => now })
    const first = await open(10)
    await first.close()
    now += 2 * BAR
    const second = await open(3)
    assert.deepEqual((await second.status()).bars, [
      [2, { ...NOTHING, peer: 10 }],
      [0, { ...NOTHING, peer: 3 }],
    ])
    await second.close()
    assert.equal(JSON.parse(await readFile(path, 'utf8')).length, 2)
  })
})

test('openHistory begins anew if its file is damaged, and goes on if it cannot be written', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'history.json')
    const { log, lines } = createLogRecorder()
    for (const text of ['{', '[[1,{"peer":-1}]]', JSON.stringify(Array(200).fill([1, NOTHING]))]) {
      await writeFile(path, text)
      const history = await openHistory({ look: async () => NOTHING, path, log })
      assert.deepEqual((await history.status()).bars, [])
      await history.close()
      assert.equal(lines.at(-1)?.event, 'damaged file replaced')
    }
    const nowhere = await openHistory({
      ...{ look: async () => ({ ...NOTHING, peer: 1 }), log },
      path: join(dir, 'nowhere', 'history.json'),
    })
    await nowhere.close()
    assert.equal(lines.at(-1)?.event, 'cannot write the history')
  })
})

test('openHistory writes its file once more when it is closed while it writes the end of a bar', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'history.json')
    const { log, lines } = createLogRecorder()
    let closing: Promise<void> | undefined
    let peer = 0
    const history = await openHistory({
      async look() {
        // The first look is the one at the end of the bar.
        closing ??= history.close()
        return { ...NOTHING, peer: ++peer }
      },
      ...{ path, log, now: () => START + BAR - 1 },
    })
    await waitFor('the bar ends', () => closing !== undefined)
    await closing
    assert.deepEqual(lines, [])
    assert.deepEqual(JSON.parse(await readFile(path, 'utf8')), [[START / BAR, { ...NOTHING, peer: 2 }]])
  })
})
