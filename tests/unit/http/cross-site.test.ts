import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withDoors } from '../../fixtures/door.ts'
import { exchange, requestText } from '../../fixtures/http.ts'
import { makeImage } from '../../fixtures/image.ts'

const image = makeImage({ layers: 1 })
const PATH = `/v2/team/app/manifests/${image.target.digest}?ns=registry.example`

test('registry door refuses requests of web pages of other sites before it looks for content', async () => {
  const setup = { local: [image, 'registry.example/team/app:1'] } as const
  await withDoors(setup, async ({ listen, lines }) => {
    const { port } = await listen()
    const ask = async (headers: Record<string, string>, path = PATH, method = 'GET') =>
      await exchange(port, requestText(method, path, { Host: `127.0.0.1:${port}`, ...headers }))
    for (const headers of [
      { 'Sec-Fetch-Site': 'cross-site' },
      { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate' },
      { 'Sec-Fetch-Site': 'same-site' },
      { Origin: 'http://evil.example' },
      { Origin: 'null' },
      { Origin: `https://127.0.0.1:${port}` },
      { Origin: `http://127.0.0.1:${port + 1}` },
      // A page whose name now resolves to this address. Its browser sends nothing else that is different.
      { Host: `evil.example:${port}` },
      { Host: `evil.example:${port}`, Origin: `http://evil.example:${port}` },
    ]) {
      for (const path of [PATH, '/v2/', '/v2/_catalog', '/elsewhere']) {
        const response = await ask(headers, path)
        assert.equal(response.status, 403, `${JSON.stringify(headers)} ${path}`)
        assert.equal(JSON.parse(String(response.body)).errors[0].code, 'DENIED')
        assert.equal(response.headers['access-control-allow-origin'], undefined)
      }
      assert.equal((await ask(headers, PATH, 'HEAD')).status, 403)
    }
    for (const headers of [
      {},
      { 'Sec-Fetch-Site': 'none', 'Sec-Fetch-Mode': 'navigate' },
      { 'Sec-Fetch-Site': 'same-origin', Origin: `http://127.0.0.1:${port}` },
      { Host: `localhost:${port}` },
      { Host: '[::1]' },
    ]) {
      assert.equal((await ask(headers)).status, 200, JSON.stringify(headers))
    }
    assert.deepEqual(lines, [])
  })
})
