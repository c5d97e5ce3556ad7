// A process that has closed everything must end by itself, on each runtime. The test runs only on Node.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { onNode } from '../unit/udx/support/peers.ts'

const BIN = fileURLToPath(new URL('../../node_modules/.bin/', import.meta.url))
const SCRIPT = fileURLToPath(new URL('../unit/udx/support/exit-worker.ts', import.meta.url))
const skip = onNode ? false : 'starts all three runtimes itself, so it runs once, on Node'
if (skip) console.log(`exit: skipped: ${skip}`)

/**
 * Milliseconds between the last output of a process and its end; less than the 15 s after which UDX itself gives up streams.
 */
const PATIENCE = 10_000

for (const [runtime, args] of [
  ['node', []],
  ['deno', ['run', '-A', '--no-check', '--quiet']],
  ['bun', []],
] as const) {
  for (const [mode, expectation] of [
    ['streams', 'ends by itself once streams and sockets are closed'],
    ['open', 'lives on while a socket is open'],
    ['throw', 'reports what a listener throws as an uncaught exception'],
  ] as const) {
    test(`process on ${runtime} ${expectation}`, { skip }, async () => {
      const child = spawn(`${BIN}${runtime}`, [...args, SCRIPT, mode], { stdio: ['ignore', 'pipe', 'inherit'] })
      const exited = new Promise<number | null>((resolve) => {
        child.once('exit', resolve)
      })
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<'alive'>((resolve) => {
        child.stdout.once('data', () => {
          timer = setTimeout(() => resolve('alive'), mode === 'open' ? 500 : PATIENCE)
        })
      })
      const outcome = await Promise.race([exited, late])
      clearTimeout(timer)
      child.kill('SIGKILL')
      await exited
      assert.equal(outcome, mode === 'open' ? 'alive' : 0)
    })
  }
}
