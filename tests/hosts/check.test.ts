import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { checkHosts, SETTINGS_DEFAULT } from '../../lib/hosts/check.ts'
import { HOSTS_FILES } from '../../lib/hosts/files.ts'
import { mirrorEntryFor } from '../../lib/hosts/mirror-entry.ts'
import { SETTINGS } from '../../lib/settings.ts'
import { runHere } from '../fixtures/command.ts'
import { withTemporaryDirectory } from '../fixtures/image.ts'

const OURS = '[host."http://127.0.0.1:5000"]\ncapabilities = ["pull", "resolve"]\n'
const THEIRS = '[host."https://b"]\n'

function check(certsDir: string, registries: readonly string[] | undefined, version: string) {
  const mirror = mirrorEntryFor({ host: '127.0.0.1', port: 5000 }, 'cached', version)
  return checkHosts({ certsDir, registries, mirror, version }, HOSTS_FILES)
}

/** Runs the command that a remedy tells. */
async function follow(command: string): Promise<void> {
  const [program, ...args] = command.split(' ')
  assert.equal(program, 'swarmirror')
  const { code, stderr } = await runHere([...args, '--containerd-socket', '/nowhere'])
  assert.equal(code, 0, stderr)
}

interface Case {
  readonly what: string
  readonly files: Readonly<Record<string, string>>
  readonly registries?: readonly string[]
  readonly version?: string
  /** Identifiers and severities. */
  readonly found: readonly string[]
  /** What is seen, of the first. */
  readonly seen?: RegExp
  /** Whether the remedy's command alone makes it right. */
  readonly follow?: boolean
}

const CASES: readonly Case[] = [
  { what: 'our entry in _default', files: { _default: OURS }, found: ['hosts-toml ok'] },
  {
    what: 'a registry that goes by _default',
    files: { _default: OURS },
    registries: ['ghcr.io'],
    found: ['hosts-toml ok'],
  },
  { what: 'no file at all', files: {}, found: ['hosts-toml-missing error'], follow: true },
  {
    what: 'no file for a registry',
    files: {},
    registries: ['a.b:5000'],
    found: ['hosts-toml-missing error'],
    follow: true,
  },
  {
    what: 'a file without our entry',
    files: { 'ghcr.io': THEIRS },
    registries: ['ghcr.io'],
    found: ['hosts-toml-without-mirror error'],
    follow: true,
  },
  {
    what: 'others before us',
    files: { _default: THEIRS + OURS },
    found: ['hosts-toml-order error'],
    seen: /https:\/\/b \(line 1\) before .* \(line 2\)/,
    follow: true,
  },
  {
    what: 'other capabilities',
    files: { _default: OURS.replace(', "resolve"', '') },
    found: ['hosts-toml-capabilities warning'],
    follow: true,
  },
  {
    what: 'a file that is not TOML',
    files: { _default: `${OURS}x = ]\n` },
    found: ['hosts-toml-discarded error'],
    seen: /line 3, column \d+: /,
  },
  {
    what: 'referrers on 1.7',
    files: { _default: OURS.replace('"resolve"', '"referrers"') },
    found: ['hosts-toml-discarded error'],
    seen: /line 2: capability "referrers"/,
  },
  {
    what: 'a server alone on 1.7.24',
    files: { 'ghcr.io': 'server = "https://ghcr.io"\n' },
    registries: ['ghcr.io'],
    found: ['hosts-toml-discarded error'],
    follow: true,
  },
  {
    what: 'our entry as a dotted key on 2.x',
    files: { _default: 'host."http://127.0.0.1:5000".capabilities = ["pull"]\n' },
    version: '2.1.0',
    found: ['hosts-toml-ignored-host error'],
    seen: /line 1: /,
  },
  {
    what: 'another host as a dotted key on 2.x',
    files: { _default: `${OURS}[host]\n"c".skip_verify = true\n` },
    version: '2.1.0',
    found: ['hosts-toml-ignored-host warning'],
    seen: /line 4: host c /,
  },
  {
    what: 'our entry in the form that does not count',
    files: { 'a.b:5000': OURS, 'a.b_5000_': THEIRS },
    registries: ['a.b:5000'],
    found: ['hosts-toml-without-mirror error', 'hosts-toml-shadowed warning'],
  },
  {
    what: 'a registry that _default does not count for',
    files: { _default: OURS, 'ghcr.io': THEIRS, 'a.b_5000_': OURS },
    found: ['hosts-toml ok', 'hosts-toml ok', 'hosts-default-shadowed warning'],
    follow: true,
  },
  {
    what: 'a broken file of another registry',
    files: { _default: OURS, 'ghcr.io': 'x' },
    found: ['hosts-toml ok', 'hosts-toml-discarded warning'],
  },
]

for (const { what, files, registries, version = '1.7.24', found, seen, follow: followed = false } of CASES) {
  test(`checkHosts sees ${what}`, async () => {
    await withTemporaryDirectory(async (certs) => {
      for (const [name, text] of Object.entries(files)) {
        const path = join(certs, name, 'hosts.toml')
        await mkdir(dirname(path))
        await writeFile(path, text)
      }
      const findings = await check(certs, registries, version)
      assert.deepEqual(
        findings.map(({ id, severity }) => `${id} ${severity}`),
        found,
      )
      for (const { severity, why, remedy } of findings) {
        if (severity !== 'ok') assert.ok(why !== '' && remedy !== undefined, 'no reason or remedy')
      }
      if (seen !== undefined) assert.match(findings[0]?.seen ?? '', seen)
      const command = findings.find(({ severity }) => severity !== 'ok')?.remedy?.command
      if (!followed) return
      await follow(command ?? '')
      const after = await check(certs, registries, version)
      assert.deepEqual([...new Set(after.map(({ severity }) => severity))], ['ok'])
    })
  })
}

test('checkHosts does not claim what it could not read', async () => {
  const files = { ...HOSTS_FILES, read: () => Promise.reject(new Error('EACCES: permission denied')) }
  const mirror = mirrorEntryFor({ host: '127.0.0.1', port: 5000 }, 'cached', undefined)
  const findings = await checkHosts({ certsDir: '/c', registries: ['ghcr.io'], mirror, version: undefined }, files)
  assert.deepEqual(findings[0]?.severity, 'unknown')
  assert.match(findings[0]?.seen ?? '', /EACCES/)
})

test('the commands of remedies leave out what the settings have by default', () => {
  assert.equal(SETTINGS_DEFAULT.certsDir, SETTINGS['certs-dir'].default)
  assert.equal(SETTINGS_DEFAULT.url, `http://${SETTINGS.listen.default}`)
})
