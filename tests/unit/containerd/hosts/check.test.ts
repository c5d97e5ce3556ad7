import assert from 'node:assert/strict'
import { mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { checkHosts } from '../../../../lib/containerd/hosts/check.ts'
import { HOSTS_FILES } from '../../../../lib/containerd/hosts/files.ts'
import { hostsCommand, mirrorEntryFor } from '../../../../lib/containerd/hosts/mirror-entry.ts'
import type { Remedy } from '../../../../lib/containerd/rule.ts'
import { runHere } from '../../../fixtures/command.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'

const OURS = '[host."http://127.0.0.1:5000"]\ncapabilities = ["pull", "resolve"]\n'
const THEIRS = '[host."https://b"]\n'

function check(certsDir: string, registries: readonly string[] | undefined, version: string) {
  const mirror = mirrorEntryFor({ host: '127.0.0.1', port: 5000 }, 'fallback')
  return checkHosts({ certsDir, registries, mirror, version, program: 'swarmirror' }, HOSTS_FILES)
}

/** Follows a remedy: runs its command. */
async function follow({ command }: Remedy): Promise<void> {
  for (const step of command?.split(' && ') ?? []) {
    const [program, ...args] = step.split(' ')
    if (program === 'mv') {
      await rename(args[0] ?? '', args[1] ?? '')
      continue
    }
    assert.equal(program, 'swarmirror')
    const { code, stderr } = await runHere(args)
    assert.equal(code, 0, stderr)
  }
}

interface Case {
  readonly what: string
  readonly files: Readonly<Record<string, string>>
  readonly registries?: readonly string[]
  readonly version?: string
  /** Identifiers and severities. */
  readonly found: readonly string[]
  /** What the first finding sees. */
  readonly seen?: RegExp
  /** Whether the remedy's command alone corrects it. */
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
    follow: true,
  },
  {
    what: 'referrers on 1.7',
    files: { _default: OURS.replace('"resolve"', '"referrers"') },
    found: ['hosts-toml-discarded error'],
    seen: /line 2: capability "referrers"/,
    follow: true,
  },
  {
    what: 'a server alone on 1.7.24',
    files: { 'ghcr.io': 'server = "https://ghcr.io"\n' },
    registries: ['ghcr.io'],
    found: ['hosts-toml-discarded error'],
    follow: true,
  },
  {
    what: 'our entry as a dotted key, which containerd 2.x ignores',
    files: { _default: 'host."http://127.0.0.1:5000".capabilities = ["pull"]\n' },
    version: '2.1.0',
    found: ['hosts-toml-without-mirror error'],
  },
  {
    what: 'our entry in the form that does not count',
    files: { 'a.b:5000': OURS, 'a.b_5000_': THEIRS },
    registries: ['a.b:5000'],
    found: ['hosts-toml-without-mirror error'],
  },
  {
    what: 'both forms of a directory, where all registries are mirrored',
    files: { _default: OURS, 'a.b:5000': OURS, 'a.b_5000_': THEIRS, 'c.d:5000': OURS, 'c.d_5000_': OURS },
    found: ['hosts-toml ok', 'hosts-toml ok', 'hosts-default-shadowed warning'],
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
    follow: true,
  },
  {
    what: 'our entry with a path of its own, below which the mirror has nothing',
    files: { _default: `${OURS}override_path = true\n` },
    found: ['hosts-toml-without-mirror error'],
    seen: /line 1: .* with override_path/,
    follow: true,
  },
  {
    what: 'our entry with the path that the mirror has',
    files: { _default: OURS.replace(':5000', ':5000/v2').concat('override_path = true\n') },
    found: ['hosts-toml ok'],
  },
  {
    what: 'our entry by the name of loopback',
    files: { _default: OURS.replace('127.0.0.1', 'localhost') },
    found: ['hosts-toml ok'],
  },
  {
    what: 'another port of loopback',
    files: { _default: OURS.replace('127.0.0.1:5000', 'localhost:5001') },
    found: ['hosts-toml-without-mirror error'],
    follow: true,
  },
  {
    what: 'directories beside those of registries',
    files: { _default: OURS, 'ghcr.io': THEIRS, 'ghcr.io_old': THEIRS, 'a copy': THEIRS, 'GHCR.io': '' },
    found: ['hosts-toml ok', 'hosts-default-shadowed warning'],
    follow: true,
  },
  {
    what: 'a probe that runs, which is nobody’s registry',
    files: { _default: OURS, 'probe-0123456789abcdef-9.swarmirror.invalid': THEIRS },
    found: ['hosts-toml ok'],
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
      const remedy = findings.find(({ severity }) => severity !== 'ok')?.remedy
      if (!followed) return
      assert.ok(remedy !== undefined)
      await follow(remedy)
      const after = await check(certs, registries, version)
      assert.deepEqual([...new Set(after.map(({ severity }) => severity))], ['ok'])
    })
  })
}

test('hostsCommand omits settings with their defaults, and quotes the rest', () => {
  const context = {
    certsDir: '/etc/containerd/certs.d',
    mirror: mirrorEntryFor({ host: '127.0.0.1', port: 5000 }, 'fallback'),
    program: 'swarmirror',
  }
  assert.equal(hostsCommand({}, context), 'swarmirror hosts')
  assert.equal(hostsCommand({ registries: ['a.b:5000', 'c.d'] }, context), 'swarmirror hosts --registries a.b:5000,c.d')
  assert.equal(hostsCommand({ also: ['[::1]:5000'] }, context), "swarmirror hosts --also '[::1]:5000'")
  const other = {
    certsDir: '/my certs',
    mirror: mirrorEntryFor({ host: '::1', port: 80 }, 'upstream'),
    program: 'npm run node --',
  }
  assert.equal(
    hostsCommand({}, other),
    "npm run node -- hosts --certs-dir '/my certs' --listen '[::1]:80' --resolve upstream",
  )
})

test('checkHosts claims nothing about what it could not read', async () => {
  const denied = () => Promise.reject(Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' }))
  const mirror = mirrorEntryFor({ host: '127.0.0.1', port: 5000 }, 'fallback')
  const asked = {
    certsDir: '/c',
    registries: undefined,
    mirror,
    version: undefined,
    program: 'swarmirror',
  }
  for (const [registries, files] of [
    [['ghcr.io'], { ...HOSTS_FILES, read: denied }],
    [undefined, { ...HOSTS_FILES, list: denied }],
  ] as const) {
    const findings = await checkHosts({ ...asked, registries }, files)
    const found = findings.at(-1)
    assert.deepEqual([found?.id, found?.severity], ['hosts-toml-unreadable', 'unknown'])
    assert.match(found?.seen ?? '', /EACCES/)
  }
  const mistaken = { ...HOSTS_FILES, list: () => Promise.reject(new TypeError('a mistake')) }
  await assert.rejects(checkHosts(asked, mistaken), TypeError)
})

test('checkHosts does not take a file for a directory', async () => {
  await withTemporaryDirectory(async (directory) => {
    const certs = join(directory, 'certs.d')
    await writeFile(certs, '')
    const findings = await check(certs, undefined, '1.7.24')
    assert.deepEqual(
      findings.map(({ id, severity }) => `${id} ${severity}`),
      ['hosts-toml-unreadable unknown', 'hosts-toml-unreadable unknown'],
    )
  })
})

test('the commands of remedies are safe to type, whatever others call their directories', async () => {
  await withTemporaryDirectory(async (directory) => {
    const certs = join(directory, "$(reboot)'`x`")
    await mkdir(join(certs, '_default'), { recursive: true })
    await mkdir(join(certs, '$(reboot)'))
    const command = (await check(certs, undefined, '1.7.24')).at(-1)?.remedy?.command ?? ''
    assert.match(command, /^swarmirror hosts --certs-dir '\/.*\/\$\(reboot\)'\\''`x`'$/)
  })
})

test('checkHosts reports a directory in place of a file, with a remedy that works', async () => {
  await withTemporaryDirectory(async (certs) => {
    await mkdir(join(certs, '_default', 'hosts.toml'), { recursive: true })
    const [found] = await check(certs, undefined, '1.7.24')
    assert.deepEqual([found?.id, found?.severity], ['hosts-toml-no-file', 'error'])
    await follow(found?.remedy ?? { text: '' })
    assert.equal((await check(certs, undefined, '1.7.24'))[0]?.severity, 'ok')
  })
})

test('checkHosts treats two names of one directory as one', async () => {
  for (const [real, link] of [
    ['a.b_5000_', 'a.b:5000'],
    ['a.b:5000', 'a.b_5000_'],
  ] as const) {
    await withTemporaryDirectory(async (certs) => {
      await mkdir(join(certs, real))
      await writeFile(join(certs, real, 'hosts.toml'), OURS)
      await symlink(real, join(certs, link))
      const findings = await check(certs, ['a.b:5000'], '1.7.24')
      assert.deepEqual(
        findings.map(({ severity }) => severity),
        ['ok'],
      )
    })
  }
})
