import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import {
  type CheckDependencies,
  type CheckResult,
  type CheckSubject,
  runCheck,
} from '../../../../lib/containerd/check/run.ts'
import type { ContainerdClient } from '../../../../lib/containerd/client/client.ts'
import { ContainerdError, type ContainerdErrorCode } from '../../../../lib/containerd/client/error.ts'
import { silentLogger } from '../../../../lib/observe/log.ts'
import { newContainerd } from '../../../doubles/new-containerd.ts'
import { runHere } from '../../../fixtures/command.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'
import { readSettings } from '../../../fixtures/settings.ts'

const never = new AbortController().signal

/** Checks a new containerd. */
function dependenciesOf(version: ContainerdClient['version']): CheckDependencies {
  return { containerd: newContainerd(version), others: async () => [], probe: 'not here', log: silentLogger }
}

const SETTINGS = readSettings({ flags: [], environment: {}, opensDoors: false })
const SUBJECT: CheckSubject = { ...SETTINGS, 'containerd-socket': '/nowhere', program: 'swarmirror' }

/** Checks a node whose files are in a directory. */
async function check(directory: string, more: Partial<CheckSubject>, code?: ContainerdErrorCode): Promise<CheckResult> {
  const configFile = join(directory, 'config.toml')
  const certsDir = join(directory, 'certs.d')
  await writeFile(
    configFile,
    `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = ${JSON.stringify(certsDir)}\n`,
  )
  const dependencies = dependenciesOf(async () => {
    if (code !== undefined) throw new ContainerdError(code, 'said the system')
    return { version: '1.7.24', revision: '' }
  })
  return await runCheck(
    dependencies,
    { ...SUBJECT, 'containerd-config': configFile, 'certs-dir': certsDir, ...more },
    never,
  )
}

for (const [code, interrupted] of [
  ['unavailable', true],
  ['timeout', true],
  ['denied', false],
  ['unsupported', false],
  ['unexpected', false],
] as const) {
  test(`check of a containerd that is ${code} ${interrupted ? 'must run again' : 'is done'}`, () =>
    withTemporaryDirectory(async (directory) => {
      const result = await check(directory, {}, code)
      assert.equal(result.interrupted, interrupted)
      assert.equal(result.report.findings[0]?.id, 'containerd-socket')
    }))
}

test('check does not turn a bug of its own into a finding', async () => {
  const mistaken = dependenciesOf(() => Promise.reject(new TypeError('a mistake')))
  await assert.rejects(
    runCheck(mistaken, { ...SUBJECT, 'containerd-config': '/nowhere', 'certs-dir': '/nowhere' }, never),
    TypeError,
  )
})

for (const [what, more] of [
  ['another port', { listen: { host: '127.0.0.1', port: 6000 } }],
  ['no tags', { resolve: 'upstream' }],
  ['some registries', { registries: new Set(['ghcr.io', 'quay.io']) }],
] as const) {
  test(`check of a node without certs.d prints commands that correct it in any order, with ${what}`, () =>
    withTemporaryDirectory(async (directory) => {
      const before = await check(directory, more)
      const commands = before.report.findings.flatMap(({ remedy }) => remedy?.command ?? [])
      assert.ok(commands.length >= 2, 'one for the directory, one for the file')
      for (const command of [...commands, ...commands.reverse()]) {
        const [, ...args] = command.split(' ')
        const { code, stderr } = await runHere(args)
        assert.equal(code, 0, stderr)
      }
      const { report } = await check(directory, more)
      const left = report.findings.filter(({ id, severity }) => /certs|hosts/.test(id) && severity !== 'ok')
      assert.deepEqual(left, [])
    }))
}

test('check depends on its own files, and not on others that come and go', () =>
  withTemporaryDirectory(async (directory) => {
    const path = join(directory, 'certs.d', '_default', 'hosts.toml')
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, '')
    const { looked } = await check(directory, {})
    const elsewhere = [...looked.keys()].filter((path) => !path.startsWith(`${directory}/`))
    assert.deepEqual(elsewhere, [])
    assert.ok(looked.has(path))
  }))
