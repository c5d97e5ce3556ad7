import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { createProbeDoor } from '../../../lib/containerd/check/probe-door.ts'
import { guardNode } from '../../../lib/mirror/guard.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { Readiness } from '../../../lib/observe/readiness.ts'
import { newContainerd } from '../../doubles/new-containerd.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { readSettings } from '../../fixtures/settings.ts'
import { waitFor } from '../../fixtures/wait.ts'

for (const [manages, finding] of [
  ['on', 'hosts-toml ok'],
  ['off', 'hosts-toml-missing error'],
] as const) {
  test(`with --manage-hosts ${manages}, the first check finds ${finding}`, () =>
    withTemporaryDirectory(async (dir) => {
      const certs = join(dir, 'certs.d')
      const config = join(dir, 'config.toml')
      await writeFile(config, 'version = 2\n')
      const flags = ['--manage-hosts', manages, '--probe', 'off', '--certs-dir', certs, '--containerd-config', config]
      const guard = guardNode(readSettings({ flags, environment: {}, opensDoors: false }), {
        containerd: newContainerd(async () => ({ version: '1.7.24', revision: '' })),
        registry: { host: '127.0.0.1', port: 4711 },
        probeDoor: createProbeDoor(),
        doors: { ask: async () => [], close: () => undefined },
        program: 'swarmirror',
        readiness: new Readiness(),
        metrics: createMetrics(),
        log: createLogRecorder().log,
        onFailure: () => undefined,
      })
      try {
        const report = await waitFor('the first check', () => guard.report)
        const found = report.findings.map(({ id, severity }) => `${id} ${severity}`)
        assert.ok(found.includes(finding), found.join('\n'))
        if (manages === 'off') return
        const text = await readFile(join(certs, '_default', 'hosts.toml'), 'utf8')
        assert.match(text, /127\.0\.0\.1:4711/, 'the port that the door got')
      } finally {
        await guard.close()
      }
    }))
}
