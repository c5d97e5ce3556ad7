import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { giveMemoryBack, runtimeName } from '../../../lib/platform/runtime.ts'

test('giveMemoryBack frees unused memory, if the runtime can', () => {
  let made = Array.from({ length: 200_000 }, (_, at) => ({ at, text: String(at) }))
  // As long as they are used, no collection that comes by itself takes them away.
  const before = process.memoryUsage().heapUsed
  assert.equal(made.length, 200_000)
  made = []
  giveMemoryBack()
  if (runtimeName === 'bun') assert.ok(process.memoryUsage().heapUsed < before)
})
