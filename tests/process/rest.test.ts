/** What a mirror does at rest. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { watchUse } from '../bench/light-figures.ts'
import { withMirrors } from '../fixtures/mirror.ts'
import { waitFor } from '../fixtures/wait.ts'

/** Milliseconds of a measurement: long enough for most periodic work of a mirror at rest. */
const STRETCH = 10_000
/**
 * Wake-ups of all threads each second, with two neighbours. It was 30 with a timer for each connection and one for each part, and 20
 * before parts shared a beat.
 */
const MOST = 16
/**
 * Milliseconds until the mirror must be at rest: after the start, a runtime compiles and collects garbage for half a minute.
 */
const START = 90_000

test('a mirror at rest wakes up for its neighbours and for deadlines, and for little else', async () => {
  await withMirrors(async (start) => {
    const first = await start()
    const mirrors = [first, await start({ bootstrap: [first] }), await start({ bootstrap: [first] })]
    const seen: number[] = []
    const stretch = async () => {
      const looks = mirrors.map(({ pid }) => watchUse([pid]))
      await delay(STRETCH)
      seen.push(Math.min(...looks.map((look) => look().wakeUps)))
      return (seen.at(-1) ?? MOST) < MOST
    }
    const rested = waitFor('a stretch of rest', stretch, START)
    await rested.catch(() => assert.fail(`wake-ups a second: ${seen}`))
  })
})
