/** The separate door for Prometheus, on the runtime of the test. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeImage } from '../fixtures/image.ts'
import { withMirrors } from '../fixtures/mirror.ts'

const NAME = 'registry.example/team/app:1'

test('mirror with --metrics-listen serves metrics and probes there, and the page only at the admin door', async () => {
  await withMirrors(async (start) => {
    const image = makeImage()
    const mirror = await start({
      images: [{ image, names: [NAME] }],
      flags: ['--metrics-listen', '127.0.0.1:0', '--page', 'on'],
    })
    const listening = mirror.lines.find((line) => line.includes('"event":"listening"')) ?? assert.fail('no door')
    const { metrics } = JSON.parse(listening) as { metrics: string }
    const ask = async (door: string, path: string) => {
      const response = await fetch(`http://${door}${path}`)
      return [response.status, await response.text()] as const
    }
    assert.match((await ask(metrics, '/metrics'))[1], /^swarmirror_ready 1$/m)
    assert.deepEqual(await ask(metrics, '/livez'), [200, 'alive\n'])
    assert.deepEqual(await ask(metrics, '/readyz'), [200, 'ready\n'])
    for (const path of ['/', '/api/status', '/v2/']) assert.equal((await ask(metrics, path))[0], 404, path)
    assert.equal((await ask(mirror.admin, '/'))[0], 200)
    assert.match((await ask(mirror.admin, '/metrics'))[1], /^swarmirror_ready 1$/m)
    assert.equal(await mirror.end(), 0)
  })
})
