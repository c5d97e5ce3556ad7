import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { giveMemoryBack, runtimeName } from '../../../lib/platform/runtime.ts'

test('giveMemoryBack frees unused memory, if the runtime can', () => {
  const made = () => Array.from({ length: 200_000 }, (_, at) => ({ at, text: String(at) }))
  assert.equal(made().length, 200_000)
  const before = process.memoryUsage().heapUsed
  giveMemoryBack()
  if (runtimeName === 'bun') assert.ok(process.memoryUsage().heapUsed < before)
})
