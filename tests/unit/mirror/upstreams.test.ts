import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { ContainerdError } from '../../../lib/containerd/client/error.ts'
import { upstreamFindings } from '../../../lib/mirror/upstreams.ts'
import { parseDigest } from '../../../lib/oci/digest.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { never } from '../../fixtures/layout.ts'
import { LOOPBACK } from '../../fixtures/mirror.ts'
import { readSettings } from '../../fixtures/settings.ts'
import { PATIENCE } from '../../fixtures/wait.ts'

const TARGET = { mediaType: 'x', digest: parseDigest(`sha256:${'0'.repeat(64)}`), size: 1 }

test('check asks the registries of hosts.toml files and of images once each, and says what their silence means', async () => {
  const server = createServer((_, response) => response.writeHead(401).end())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  try {
    await withTemporaryDirectory(async (certs) => {
      for (const [registry, url] of [
        ['up.example', `http://127.0.0.1:${port}`],
        ['down.example', 'http://127.0.0.1:1'],
      ] as const) {
        await mkdir(join(certs, registry))
        await writeFile(join(certs, registry, 'hosts.toml'), `server = "${url}"\n`)
      }
      const names = [`127.0.0.1:${port}/team/app:1`, 'up.example/team/app:1', `sha256:${'0'.repeat(64)}`]
      const images = async () => names.map((name) => ({ name, target: TARGET }))
      const settings = (...flags: string[]) =>
        readSettings({
          flags: [...LOOPBACK, '--certs-dir', certs, '--upstream-timeout', `${PATIENCE}ms`, ...flags],
          environment: {},
        })
      const found = await upstreamFindings(settings(), { images }, never)
      const shown = found.map(({ severity, seen }) => [severity, seen.replace(/ \(.*/, '')])
      assert.deepEqual(shown, [
        ['warning', 'down.example does not answer'],
        ['ok', 'up.example answers'],
        ['unknown', `127.0.0.1:${port} is not asked from here`],
      ])
      assert.deepEqual(found[0]?.remedy?.lines, ['SWARMIRROR_RESOLVE=swarm'])
      assert.match(found[0]?.why ?? '', /the swarm last knew/)
      const strict = await upstreamFindings(
        settings('--resolve', 'upstream', '--registries', 'down.example'),
        { images },
        never,
      )
      assert.deepEqual(
        strict.map(({ severity, remedy }) => [severity, remedy]),
        [['warning', undefined]],
      )
      assert.match(strict[0]?.why ?? '', /no tag of it resolves/)
      const gone = () => Promise.reject(new ContainerdError('unavailable', 'gone'))
      assert.equal((await upstreamFindings(settings(), { images: gone }, never)).length, 2)
      assert.deepEqual(await upstreamFindings(settings('--resolve', 'swarm'), { images }, never), [])
    })
  } finally {
    server.close()
    server.closeAllConnections()
  }
})
