import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Fact, Finding, Severity } from '../../../../lib/containerd/rule.ts'
import { followIn } from '../../../fixtures/toml-edits.ts'
import { checkConfig } from './checked-config.ts'
import { memoryFiles, withFile } from './memory-files.ts'

const MAIN = '/etc/containerd/config.toml'
const EXPECTATION = { certsDir: '/etc/containerd/certs.d', registryDoor: '127.0.0.1:5000' }
const OLD = 'plugins."io.containerd.grpc.v1.cri"'
const IMAGES = 'plugins."io.containerd.cri.v1.images"'
const RIGHT_OLD = `version = 2\n[${OLD}.registry]\n  config_path = "/etc/containerd/certs.d"\n`
const RIGHT = `version = 3\n[${IMAGES}.registry]\n  config_path = "/etc/containerd/certs.d"\n`

type Texts = Readonly<Record<string, string | Error>>

async function check(version: Fact<string>, texts: Texts | string, expectation = EXPECTATION) {
  const files = memoryFiles(typeof texts === 'string' ? { [MAIN]: texts } : texts)
  return (await checkConfig(version, files, expectation)).findings
}

function only(findings: readonly Finding[], id: string): Finding {
  const [finding, ...more] = findings.filter((candidate) => candidate.id === id)
  assert.ok(finding !== undefined && more.length === 0, `${id} in ${JSON.stringify(findings, undefined, 1)}`)
  return finding
}

function severities(findings: readonly Finding[], severity: Severity): string[] {
  return findings.filter((finding) => finding.severity === severity).map(({ id }) => id)
}

/** Follows all remedies, as a reader of the report does. */
async function repaired(version: Fact<string>, text: string, of: Severity = 'error'): Promise<readonly Finding[]> {
  const remedies = (await check(version, text)).flatMap(({ severity, remedy }) => {
    if (severity !== of || remedy === undefined) return []
    if (remedy.file !== undefined) assert.equal(remedy.file, MAIN)
    if (remedy.command !== undefined) assert.equal(remedy.command, 'systemctl restart containerd')
    return remedy
  })
  const followed = remedies.reduce(followIn, text)
  assert.notEqual(followed, text)
  return check(version, followed)
}

describe('checkConfig', () => {
  for (const [version, text] of [
    ['1.6.20', RIGHT_OLD],
    ['1.7.24~ds1', RIGHT_OLD],
    ['2.1.4', RIGHT_OLD],
    ['2.0.1', RIGHT],
    ['2.2.0', RIGHT],
    ['2.3.0', RIGHT.replace('version = 3', 'version = 4')],
  ] as const) {
    it(`accepts a right file on ${version}`, async () => {
      const findings = await check(version, text)
      assert.deepEqual(
        findings.filter(({ severity }) => severity !== 'ok'),
        [],
      )
      assert.deepEqual(
        findings.map(({ id }) => id),
        [
          'containerd-version',
          'distribution',
          'containerd-config-file',
          'registry-config-path',
          'discard-unpacked-layers',
          'legacy-registry-config',
        ],
      )
    })
  }

  describe('registry-config-path', () => {
    for (const [version, value, severity] of [
      ['1.7.24', '/etc/containerd/certs.d', 'ok'],
      ['1.7.24', '/etc/containerd/certs.d/', 'ok'],
      ['1.7.24', '/etc//containerd/./certs.d', 'ok'],
      ['1.7.24', '/etc/containerd/certs.d:/etc/docker/certs.d', 'ok'],
      ['1.7.24', '/etc/docker/certs.d:/etc/containerd/certs.d', 'warning'],
      ['2.0.5', '/etc/containerd/certs.d:/etc/docker/certs.d', 'ok'],
      ['2.1.0', '/etc/containerd/certs.d:/etc/docker/certs.d', 'error'],
      ['2.2.0', '/etc/containerd/certs.d:', 'ok'],
      ['1.7.24', '/etc/containerd/certs.d.old', 'error'],
      ['1.7.24', '', 'error'],
    ] as const) {
      it(`finds ${JSON.stringify(value)} on ${version} ${severity}`, async () => {
        const text = `version = 2\n[${OLD}.registry]\nconfig_path = ${JSON.stringify(value)}\n`
        const finding = only(await check(version, text), 'registry-config-path')
        assert.equal(finding.severity, severity, finding.seen)
        assert.match(finding.seen, new RegExp(`\\(${MAIN} line 3\\)`))
        assert.equal(finding.remedy === undefined, severity === 'ok')
      })
    }

    it('finds the default list of 2.2 wrong, and shortens it', async () => {
      const finding = only(await check('2.2.0', 'version = 3\n'), 'registry-config-path')
      assert.equal(finding.severity, 'error')
      assert.match(finding.seen, /this version's default/)
      assert.deepEqual(severities(await repaired('2.2.0', 'version = 3\n'), 'error'), [])
    })

    it('accepts a list if containerd pulls by itself', async () => {
      const list = `version = 3\n[${IMAGES}.registry]\nconfig_path = "/etc/containerd/certs.d:/b"\n[${IMAGES}]\n`
      const severity = async (line: string) =>
        only(await check('2.1.4', `${list}${line}\n`), 'registry-config-path').severity
      assert.equal(await severity('use_local_image_pull = true'), 'ok')
      // With any of these containerd also pulls by itself; the probe shows that a list then works.
      for (const line of ['max_concurrent_downloads = 5', 'discard_unpacked_layers = true'])
        assert.equal(await severity(line), 'error', line)
    })

    it('prefers to let swarmirror use the directory that containerd uses', async () => {
      const text = `version = 2\n[${OLD}.registry]\nconfig_path = "/srv/certs.d"\n`
      const { severity, remedy } = only(await check('1.7.24', text), 'registry-config-path')
      assert.equal(severity, 'error')
      assert.deepEqual(remedy?.lines, ['SWARMIRROR_CERTS_DIR=/srv/certs.d'])
      assert.equal(remedy?.command, undefined)
      const expectation = { ...EXPECTATION, certsDir: '/srv/certs.d' }
      assert.deepEqual(severities(await check('1.7.24', text, expectation), 'error'), [])
    })

    it('rejects a value that is no text', async () => {
      const text = `version = 2\n[${OLD}.registry]\nconfig_path = ["/etc/containerd/certs.d"]\n`
      assert.match(only(await check('1.7.24', text), 'registry-config-path').seen, /not a string/)
      assert.deepEqual(severities(await repaired('1.7.24', text), 'error'), [])
    })

    for (const [version, text] of [
      ['1.7.24', ''],
      ['1.7.24', 'version = 2'],
      ['1.7.24', `version = 2\n[${OLD}]\n  sandbox_image = "x"\n`],
      ['1.7.24', `version = 2\n[plugins]\n  [${OLD}.registry]\n    [${OLD}.registry.headers]\n      x = ["y"]\n`],
      ['1.7.24', `version = 2\n${OLD}.registry.config_path = ""\n`],
      ['1.7.24', '[plugins.cri]\nsandbox_image = "x"\n'],
      ['2.1.0', 'version = 3\n'],
      ['2.1.0', `version = 3\n[${OLD}.registry]\nconfig_path = "/etc/containerd/certs.d"\n`],
      ['2.3.0', 'version = 2\n'],
      ['2.3.0', 'version = 4\n'],
    ] as const) {
      it(`prints lines that correct ${JSON.stringify(text)} on ${version}`, async () => {
        assert.deepEqual(severities(await repaired(version, text), 'error'), [])
      })
    }

    it('writes into the file that counts if an import replaces the plugin', async () => {
      const texts = {
        [MAIN]: `version = 2\nimports = ["x.toml"]\n[${OLD}.registry]\nconfig_path = "/etc/containerd/certs.d"\n`,
        '/etc/containerd/x.toml': `[${OLD}]\nsandbox_image = "x"\n`,
      }
      const { remedy } = only(await check('1.7.24', texts), 'registry-config-path')
      assert.equal(remedy?.file, '/etc/containerd/x.toml')
      const text = followIn(texts['/etc/containerd/x.toml'], remedy ?? { text: '' })
      const files = withFile(memoryFiles(texts), '/etc/containerd/x.toml', text)
      assert.deepEqual(severities((await checkConfig('1.7.24', files, EXPECTATION)).findings, 'error'), [])
    })
  })

  describe('discard-unpacked-layers', () => {
    for (const [version, text] of [
      ['1.7.24', `${RIGHT_OLD}[${OLD}.containerd]\n  discard_unpacked_layers = true # to save space\n`],
      ['2.2.0', `${RIGHT}[${IMAGES}]\n  discard_unpacked_layers = true\n`],
      ['2.2.0', `${RIGHT_OLD}[${OLD}.containerd]\ndiscard_unpacked_layers = true\n[${OLD}.containerd.runtimes.runc]\n`],
      ['1.7.24', `${RIGHT_OLD}[${OLD}.containerd]\n  discard_unpacked_layers = "yes"\n`],
    ] as const) {
      it(`turns it off in ${JSON.stringify(text.slice(RIGHT_OLD.length))} on ${version}`, async () => {
        const findings = await check(version, text)
        assert.deepEqual(severities(findings, 'error'), ['discard-unpacked-layers'])
        assert.deepEqual(severities(await repaired(version, text), 'error'), [])
      })
    }

    it('knows that a migration drops it', async () => {
      const text = `${RIGHT_OLD}[${OLD}.containerd]\ndiscard_unpacked_layers = true\n`
      assert.equal(only(await check('2.2.0', text), 'discard-unpacked-layers').severity, 'ok')
    })
  })

  describe('legacy-registry-config', () => {
    const mirrors = `[${OLD}.registry.mirrors."docker.io"]\n  endpoint = ["https://mirror.example"]\n`
    it('finds mirrors beside config_path wrong, and removes them', async () => {
      const findings = await check('1.7.24', `${RIGHT_OLD}${mirrors}`)
      assert.deepEqual(severities(findings, 'error'), ['legacy-registry-config'])
      assert.deepEqual(severities(await repaired('1.7.24', `${RIGHT_OLD}${mirrors}`), 'error'), [])
    })

    it('replaces mirrors by config_path in one step', async () => {
      const text = `version = 2\n${mirrors}[${OLD}]\nsandbox_image = "x"\n`
      const findings = await check('1.7.24', text)
      assert.deepEqual(severities(findings, 'error'), ['registry-config-path', 'legacy-registry-config'])
      assert.match(
        only(findings, 'legacy-registry-config').remedy?.text ?? '',
        /^follow the remedy of registry-config-path/,
      )
      assert.deepEqual(severities(await repaired('1.7.24', text), 'error'), [])
    })

    it('accepts mirrors that ask our door first', async () => {
      const text = `version = 2\n[${OLD}.registry.mirrors."*"]\nendpoint = ["http://127.0.0.1:5000", "https://x"]\n`
      assert.deepEqual(severities(await check('1.7.24', text), 'error'), [])
      const inPlace = async (version: string, text: string) =>
        (await checkConfig(version, memoryFiles({ [MAIN]: text }), EXPECTATION)).mirrorsInPlace
      const other = text.replace('127.0.0.1:5000', '127.0.0.1:5009')
      // From 2.2 on, they replace containerd's own default for config_path.
      for (const version of ['1.7.24', '2.1.9', '2.2.4', '2.3.4']) {
        assert.ok(await inPlace(version, text), version)
        assert.ok(!(await inPlace(version, other)), version)
        const findings = await check(version, text)
        assert.deepEqual([severities(findings, 'error'), severities(findings, 'warning')], [[], []], version)
        assert.match(only(findings, 'registry-config-path').seen, /^registry\.mirrors asks 127\.0\.0\.1:5000 first/)
        assert.deepEqual(severities(await check(version, other), 'error').length, 2)
        assert.deepEqual(severities(await repaired(version, other), 'error'), [])
      }
    })

    it('finds them wrong on versions that no longer read them', async () => {
      const text = `version = 2\n[${OLD}.registry.mirrors."*"]\nendpoint = ["http://127.0.0.1:5000"]\n`
      const late = await check('2.4.0', text)
      assert.deepEqual(severities(late, 'error'), ['registry-config-path'])
      assert.match(only(late, 'legacy-registry-config').why, /ignores it/)
      const after = await repaired('2.4.0', text)
      assert.deepEqual([severities(after, 'error'), severities(after, 'warning')], [[], []])
      const beside = `${RIGHT}[${IMAGES}.registry.mirrors."x"]\nendpoint = ["http://x"]\n`
      assert.deepEqual(severities(await repaired('2.4.0', beside, 'warning'), 'warning'), [])
    })

    it('finds configs with tls wrong on 1.x and ignored later; an empty table of mirrors counts as none', async () => {
      const tls = `${RIGHT_OLD}[${OLD}.registry.configs."x".tls]\ninsecure_skip_verify = true\n[${OLD}.registry.mirrors]\n`
      assert.equal(only(await check('1.7.24', tls), 'legacy-registry-config').severity, 'error')
      assert.equal(only(await check('2.1.0', tls), 'legacy-registry-config').severity, 'warning')
      const several = `${tls}[${OLD}.registry.configs."y"]\ntls = { ca_file = "/ca" }\nauth = { username = "u" }\n`
      assert.deepEqual(severities(await repaired('1.7.24', several), 'error'), [])
      assert.deepEqual(severities(await repaired('2.1.0', several, 'warning'), 'warning'), [])
      const auth = `${RIGHT_OLD}[${OLD}.registry.configs."x".auth]\nusername = "u"\n`
      assert.equal(only(await check('1.7.24', auth), 'legacy-registry-config').severity, 'ok')
    })
  })

  it('warns of disabled CRI, as in Docker’s packages', async () => {
    const finding = only(await check('1.7.24', 'disabled_plugins = ["cri"]\n'), 'cri-disabled')
    assert.equal(finding.severity, 'warning')
    const text = '# Docker has its own\ndisabled_plugins = [\n  "cri", # CRI\n]\n'
    assert.deepEqual(severities(await repaired('1.7.24', text, 'warning'), 'warning'), [])
  })

  describe('something that could not be read', () => {
    it('is unknown without a file and without an answer', async () => {
      const findings = await check('2.2.0', {})
      assert.deepEqual(severities(findings, 'error'), [])
      assert.deepEqual(severities(findings, 'unknown'), [
        'containerd-config-file',
        'registry-config-path',
        'discard-unpacked-layers',
      ])
      assert.match(only(findings, 'containerd-config-file').remedy?.text ?? '', /--containerd-config/)
    })

    it('has the whole file as a remedy for a containerd without one', async () => {
      for (const version of ['1.7.24', '2.2.0']) {
        const found = only(await check(version, {}), 'registry-config-path')
        assert.deepEqual([found.severity, found.remedy?.file], ['unknown', MAIN])
        const after = await check(version, (found.remedy?.lines ?? []).join('\n'))
        assert.equal(only(after, 'registry-config-path').severity, 'ok')
        assert.deepEqual([severities(after, 'error'), severities(after, 'warning')], [[], []])
      }
    })

    it('is an error with a byte order mark', async () => {
      const found = only(await check('2.2.0', `\ufeff${RIGHT}`), 'containerd-config-file')
      assert.equal(found.severity, 'error')
      assert.match(found.seen, /line 1, column 1: a byte order mark/)
    })

    it('is unknown with a file that we may not read', async () => {
      const refused = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
      const findings = await check('2.2.0', {
        [MAIN]: `imports = ["x.toml"]\n${RIGHT}`,
        '/etc/containerd/x.toml': refused,
      })
      assert.deepEqual(severities(findings, 'error'), [])
      assert.equal(only(findings, 'registry-config-path').severity, 'unknown')
    })

    it('asks for nothing that is already so in what could be read', async () => {
      for (const [version, text] of [['1.7.24', RIGHT_OLD] as const, ['2.2.0', RIGHT] as const]) {
        const findings = await check(version, { [MAIN]: `imports = ["gone.toml"]\n${text}` })
        const { severity, remedy } = only(findings, 'registry-config-path')
        assert.deepEqual([severity, remedy], ['unknown', undefined])
      }
    })

    it('is an error with its place in a file that containerd cannot read either', async () => {
      const broken = only(await check('2.2.0', `${RIGHT}x = [\n`), 'containerd-config-file')
      assert.equal(broken.severity, 'error')
      assert.match(broken.seen, /config\.toml line 5, column \d+: /)
      assert.match(broken.remedy?.command ?? '', /config dump/)
      const missing = only(await check('2.2.0', `imports = ["/gone.toml"]\n${RIGHT}`), 'containerd-config-file')
      assert.equal(missing.severity, 'error')
      assert.match(missing.seen, /\/gone\.toml, imported by \/etc\/containerd\/config\.toml/)
    })

    it('is proven right by a probe, whatever else could be read', async () => {
      const registry = 'probe-0123456789abcdef-5000.swarmirror.invalid'
      const requests = [{ method: 'HEAD', part: 'manifest', ns: registry }] as const
      const probe = {
        way: 'own',
        door: 'http://127.0.0.1:5000',
        registry,
        requests,
        layer: 'kept',
      } as const
      const { findings } = await checkConfig('2.2.0', memoryFiles({}), EXPECTATION, probe)
      for (const id of ['registry-config-path', 'discard-unpacked-layers']) {
        assert.equal(only(findings, id).severity, 'ok')
        assert.match(only(findings, id).seen, /^the probe shows that it is right; .*config\.toml/)
      }
      assert.deepEqual(severities(findings, 'unknown'), ['containerd-config-file'])
    })

    it('is reported for the version, with the rules that were used instead', async () => {
      const silent = { unreadable: 'containerd Version: timeout' }
      const findings = await check(silent, RIGHT_OLD)
      const { severity, seen, why } = only(findings, 'containerd-version')
      assert.deepEqual([severity, /timeout/.test(seen), /newest/.test(why)], ['unknown', true, true])
      assert.equal(only(findings, 'registry-config-path').severity, 'ok')
      const list = RIGHT_OLD.replace('certs.d', 'certs.d:/b')
      assert.equal(only(await check(silent, list), 'registry-config-path').severity, 'error')
      assert.match(only(await check('main', RIGHT), 'containerd-version').seen, /"main"/)
    })
  })

  it('gives a remedy for everything that is wrong', async () => {
    const wrong = [
      'x = [',
      'version = 9',
      'imports = ["/gone.toml"]',
      'disabled_plugins = ["cri"]',
      `version = 3\n[${OLD}.registry]\nconfig_path = "/x"\nmirrors = { a = { endpoint = [] } }\n`,
    ]
    for (const version of ['1.7.24', '2.2.0', '2.3.0', '2.4.0']) {
      for (const text of wrong) {
        for (const { id, severity, remedy } of await check(version, text)) {
          if (severity === 'error') assert.notEqual(remedy?.text ?? '', '', `${id} of ${text} on ${version}`)
        }
      }
    }
  })

  it('never throws, and names each finding in kebab-case, whatever containerd calls itself', async () => {
    const versions = fc.oneof(fc.constantFrom('1.7.24', '2.2.0'), fc.string(), fc.record({ unreadable: fc.string() }))
    await fc.assert(
      fc.asyncProperty(versions, fc.constantFrom('', RIGHT, RIGHT_OLD, 'x = ['), async (version, text) => {
        for (const { id, seen, expected, why } of await check(version, text)) {
          assert.match(id, /^[a-z]+(-[a-z]+)+$|^distribution$/)
          for (const words of [seen, expected, why]) assert.notEqual(words, '')
        }
      }),
      { numRuns: 200 },
    )
  })
})
