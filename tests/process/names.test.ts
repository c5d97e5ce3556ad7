/** A mirror whose bootstrap names do not resolve, because a cluster's DNS is broken. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { makeImage, withTemporaryDirectory, writeLayout } from '../fixtures/image.ts'
import { LOOPBACK } from '../fixtures/mirror.ts'
import { HELD_NAME, layerPath } from '../fixtures/mirrors.ts'
import { MAIN, runProgram } from '../fixtures/process.ts'

interface Line {
  readonly event: string
  readonly registry?: string
  readonly admin?: string
  readonly reasons?: readonly string[]
}

/** A name that no DNS knows (RFC 6761). */
const NAME = 'swarm.invalid'
const REASON = `no bootstrap name has resolved yet: ${NAME}`

test('mirror whose bootstrap name has never resolved is not ready, says so, and serves what it has', async () => {
  const image = makeImage({ layers: 1, layerSize: 10_000 })
  await withTemporaryDirectory(async (dir) => {
    await writeLayout(dir, [{ image, names: [HELD_NAME] }])
    const flags = ['--store', `oci-layout:${dir}`, ...LOOPBACK, '--bootstrap', `dns:${NAME}:5001`]
    const asked = Promise.withResolvers<readonly [ready: string, bytes: Buffer]>()
    const ask = async (child: ChildProcess, doors: Line | undefined) => {
      try {
        const ready = await fetch(`http://${doors?.admin}/readyz`)
        const layer = await fetch(`http://${doors?.registry}${layerPath(image)}`)
        asked.resolve([await ready.text(), Buffer.from(await layer.arrayBuffer())])
      } catch (error) {
        asked.reject(error)
      }
      process.kill(child.pid ?? assert.fail('no process'), 'SIGTERM')
    }
    const { code, stderr } = await runProgram(MAIN, flags, {
      onStart(child) {
        let doors: Line | undefined
        createInterface({ input: child.stderr ?? assert.fail('no log') }).on('line', (text) => {
          const line = JSON.parse(text) as Line
          if (line.event === 'listening') doors = line
          // By then, all other waits of a start are over.
          if (line.event === 'not ready' && line.reasons?.join() === REASON) void ask(child, doors)
        })
      },
    })
    const [ready, bytes] = await asked.promise
    assert.equal(ready, `not ready: ${REASON}\n`)
    assert.deepEqual(bytes, Buffer.from(image.contents.at(-1)?.bytes ?? []))
    assert.equal(code, 0)
    assert.equal(stderr.match(/"event":"bootstrap name does not resolve"/g)?.length, 1)
  })
})
