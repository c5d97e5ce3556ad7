import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Readiness } from '../../../lib/observe/readiness.ts'

test('readiness has the reasons of all parts that wait, in the order in which they were made', () => {
  const readiness = new Readiness()
  assert.deepEqual(readiness.reasons, [])
  const store = readiness.wait('containerd has not answered yet')
  const swarm = readiness.wait('the swarm is not joined yet')
  assert.deepEqual(readiness.reasons, ['containerd has not answered yet', 'the swarm is not joined yet'])
  store.over()
  assert.deepEqual(readiness.reasons, ['the swarm is not joined yet'])
  swarm.over()
  assert.deepEqual(readiness.reasons, [])
  store.for('one thing', 'another')
  assert.deepEqual([readiness.reasons, swarm.reasons], [['one thing', 'another'], []])
})

test('readiness reports each change once, until the listener is removed', () => {
  const readiness = new Readiness()
  const told: string[] = []
  const end = readiness.onChange(() => told.push(readiness.reasons.join('; ')))
  const wait = readiness.wait('one thing')
  wait.for('one thing')
  wait.for('one thing', 'another')
  readiness.wait()
  wait.over()
  wait.over()
  assert.deepEqual(told, ['one thing', 'one thing; another', ''])
  end()
  wait.for('one thing')
  assert.equal(told.length, 3)
})

test('readiness has notes beside the reasons, which do not make the mirror unready and are reported once', () => {
  const readiness = new Readiness()
  const told: string[] = []
  readiness.onChange(() => told.push([...readiness.reasons, '|', ...readiness.notes].join(' ')))
  const wait = readiness.wait()
  for (let time = 0; time < 2; time++) wait.tell({ reasons: [], notes: ['a thing'] })
  wait.tell({ reasons: ['one'], notes: ['a thing'] })
  wait.over()
  assert.deepEqual(told, ['| a thing', 'one | a thing', '|'])
})

test('readiness is reached when nothing keeps the mirror waiting any more, unless the signal aborts before', async () => {
  const readiness = new Readiness()
  await readiness.reached(new AbortController().signal)
  const waits = [readiness.wait('one thing'), readiness.wait('another')]
  const reason = new Error('enough')
  await assert.rejects(readiness.reached(AbortSignal.abort(reason)), reason)
  const reached = readiness.reached(new AbortController().signal)
  for (const wait of waits) wait.over()
  await reached
})
