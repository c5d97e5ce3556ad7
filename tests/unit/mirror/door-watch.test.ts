import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AskedDoor, DoorAnswer } from '../../../lib/mirror/bootstrap-doors.ts'
import { watchDoors } from '../../../lib/mirror/bootstrap-doors.ts'
import { Readiness } from '../../../lib/observe/readiness.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor } from '../../fixtures/wait.ts'

const KEY = '10.0.0.2 refuses this node: its swarm key or --peer-transfer differs'
const UNHEARD = '10.0.0.2 lets this node in over TCP, but no node answers over UDP'
const SILENCE = '10.0.0.2 does not answer over TCP'

interface Scene {
  answers: DoorAnswer[]
  /** By how much this machine's clock is ahead of that of each door. */
  aheadMs: number
  alone: boolean
  asked: number
  readonly readiness: Readiness
  /** Waits until the readiness says exactly this. */
  says(reasons: readonly string[], notes: readonly string[]): Promise<void>
}

async function withWatch(answers: DoorAnswer[], alone: boolean, use: (scene: Scene) => Promise<void>): Promise<void> {
  const readiness = new Readiness()
  const said = () => JSON.stringify([readiness.reasons, readiness.notes])
  const scene: Scene = {
    answers,
    aheadMs: 0,
    alone,
    asked: 0,
    readiness,
    async says(...wanted) {
      await waitFor(JSON.stringify(wanted), () => said() === JSON.stringify(wanted))
    },
  }
  const ask = async (): Promise<readonly AskedDoor[]> => {
    scene.asked++
    const { answers, aheadMs } = scene
    return answers.map((answer, index) => ({ host: `10.0.0.${index + 2}`, answer, aheadMs }))
  }
  const { log } = createLogRecorder()
  const watch = watchDoors({ doors: { ask }, joined: Promise.resolve(), isAlone: () => scene.alone, readiness, log }, 1)
  try {
    assert.equal(readiness.reasons.length, 1, 'nothing is known before the first answers')
    await use(scene)
  } finally {
    await watch.close()
  }
}

test('DoorWatch: a node whose key no door accepts and that knows nobody is not ready, until a door accepts it', () =>
  withWatch(['refuses', 'silent'], true, async (scene) => {
    await scene.says([KEY], [])
    scene.answers = ['accepts', 'refuses']
    await scene.says([], [UNHEARD])
    scene.alone = false
    await scene.says([], [])
  }))

test('DoorWatch: one door that refuses does not matter where another one accepts, or others are known', async () => {
  await withWatch(['refuses', 'accepts'], false, (scene) => scene.says([], []))
  await withWatch(['refuses'], false, (scene) => scene.says([], [KEY]))
})

test('DoorWatch: a node that is alone because its clock is wrong is not ready', async () => {
  for (const answer of ['accepts', 'late'] as const) {
    await withWatch([answer, answer], true, async (scene) => {
      scene.aheadMs = -300_000
      await scene.says(['the clock is 300 s behind that of 2 other nodes'], [])
      scene.aheadMs = 300_000
      await scene.says(['the clock is 300 s ahead of that of 2 other nodes'], [])
      scene.alone = false
      await scene.says([], [])
    })
  }
})

test('DoorWatch: a node that is alone notes that all doors are silent, and is ready', () =>
  withWatch(['silent'], true, async (scene) => {
    await scene.says([], [SILENCE])
    scene.alone = false
    await scene.says([], [])
  }))

test('DoorWatch asks nobody any more once it is accepted and knows others, and again when it is alone', () =>
  withWatch(['accepts'], false, async (scene) => {
    await scene.says([], [])
    assert.equal(scene.asked, 1)
    scene.alone = true
    await waitFor('it asks again', () => scene.asked > 2)
  }))

test('DoorWatch asks again after the doors could not be asked', async () => {
  const { log, lines } = createLogRecorder()
  const readiness = new Readiness()
  const refused: AskedDoor = { host: '10.0.0.2', answer: 'refuses' }
  let asked = 0
  const ask = async () => {
    if (++asked === 2) throw new Error('getifaddrs returned EMFILE')
    return [refused]
  }
  const watch = watchDoors({ doors: { ask }, joined: Promise.resolve(), isAlone: () => true, readiness, log }, 1)
  await waitFor('it asks once more', () => asked > 3)
  assert.deepEqual(readiness.reasons, [KEY])
  await watch.close()
  assert.deepEqual(
    lines.map(({ level, event }) => [level, event]),
    [['error', 'bootstrap addresses cannot be asked']],
  )
})

test('DoorWatch can be closed before the swarm is joined', async () => {
  const { log, lines } = createLogRecorder()
  const ask = async () => []
  const joined = new Promise<void>(() => undefined)
  const watch = watchDoors({ doors: { ask }, joined, isAlone: () => true, readiness: new Readiness(), log }, 1)
  await watch.close()
  assert.deepEqual(lines, [])
})
