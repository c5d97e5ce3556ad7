import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { type ConfigReading, readConfig } from '../../../../../lib/containerd/check/config/settings.ts'
import { dialectOf } from '../../../../../lib/containerd/dialect.ts'
import { anyText } from '../../../../fixtures/arbitrary.ts'
import { memoryFiles } from '../memory-files.ts'

const MAIN = '/etc/containerd/config.toml'
const OLD = 'plugins."io.containerd.grpc.v1.cri"'
const IMAGES = 'plugins."io.containerd.cri.v1.images"'

type Texts = Readonly<Record<string, string | Error>>

function read(version: string, texts: Texts | string): Promise<ConfigReading> {
  const files = memoryFiles(typeof texts === 'string' ? { [MAIN]: texts } : texts)
  return readConfig(files, dialectOf(version))
}

/** The values for containerd: config_path, discard_unpacked_layers. */
async function valuesOf(version: string, texts: Texts | string): Promise<string> {
  const { settings } = await read(version, texts)
  return `${String(settings.configPath.value)} ${String(settings.discardUnpackedLayers.value)}`
}

const BOTH = `[${OLD}.registry]\nconfig_path = "/old"\n[${OLD}.containerd]\ndiscard_unpacked_layers = true\n`
const RUNTIMES = `[${OLD}.containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n`
const NEW = `[${IMAGES}]\ndiscard_unpacked_layers = true\n[${IMAGES}.registry]\nconfig_path = "/new"\n`
const MIRRORS = `[${IMAGES}.registry.mirrors."*"]\nendpoint = ["http://127.0.0.1:5000"]\n`
const EMPTY = `[${IMAGES}.registry]\nconfig_path = ""\n`
const LIST = '/etc/containerd/certs.d:/etc/docker/certs.d'
const SHORT = '[plugins.cri.registry]\nconfig_path = "/short"\n'

describe('readConfig', () => {
  // The rows of 1.7 are what `containerd config dump` of 1.7.24 gives (tests/e2e/check-config-dump.test.ts), those of 2.1 what
  // that of 2.1.9 gave; those of later versions follow containerd's source.
  const rows: readonly [what: string, version: string, text: string, values: string][] = [
    ['nothing on 1.7', '1.7.24', '', ' false'],
    ['nothing on 2.1', '2.1.0', '', ' false'],
    ['nothing on 2.2', '2.2.0', '', '/etc/containerd/certs.d:/etc/docker/certs.d false'],
    ['both of version 2', '1.7.24', `version = 2\n${BOTH}`, '/old true'],
    ['full ids in version 1', '1.7.24', BOTH, ' false'],
    ['short ids in version 1', '1.6.8', SHORT, '/short false'],
    ['version 3', '2.0.0', `version = 3\n${NEW}`, '/new true'],
    ['version 4', '2.3.0', `version = 4\n${NEW}`, '/new true'],
    ['a migrated version 2 without runtimes', '2.1.0', `version = 2\n${BOTH}`, '/old false'],
    ['a migrated version 2 with runtimes', '2.1.0', `version = 2\n${BOTH}${RUNTIMES}`, '/old true'],
    ['a migrated version 2 on 2.3', '2.3.0', `version = 2\n${BOTH}${RUNTIMES}`, '/old true'],
    ['the old id in version 3', '2.1.0', `version = 3\n${BOTH}`, ' false'],
    ['the new id in version 2', '2.1.0', `version = 2\n${NEW}`, '/new true'],
    ['both ids in version 2, where the old one wins', '2.1.0', `version = 2\n${BOTH}${RUNTIMES}${NEW}`, '/old true'],
    ['version 1 on 2.1, which renames its ids and forgets the rest of the migration', '2.1.0', SHORT, ' false'],
    ['version 1 on 2.3, which migrates it whole', '2.3.0', SHORT, '/short false'],
    ['the new id in a file without a version', '2.1.0', NEW, '/new true'],
    ['the old id in version 3 on 2.3', '2.3.0', `version = 3\n${BOTH}`, `${LIST} false`],
    ['mirrors in place of the default of 2.2', '2.2.2', `version = 3\n${MIRRORS}`, ' false'],
    ['mirrors that 2.4 no longer reads', '2.4.0', `version = 4\n${MIRRORS}`, `${LIST} false`],
    ['an empty path on 2.2, where the default stands in for it', '2.2.2', `version = 3\n${EMPTY}`, `${LIST} false`],
  ]
  for (const [what, version, text, values] of rows) {
    it(`reads ${what}`, async () => assert.equal(await valuesOf(version, text), values))
  }

  it('replaces a plugin whole with an imported one up to 1.7', async () => {
    const texts = {
      [MAIN]: `version = 2\nimports = ["conf.d/*.toml"]\n${BOTH}`,
      '/etc/containerd/conf.d/x.toml': `[${OLD}]\nsandbox_image = "x"\n`,
    }
    assert.equal(await valuesOf('1.7.24', texts), ' false')
  })

  it('merges an imported plugin key by key since 2.0, an empty text included', async () => {
    const texts = {
      [MAIN]: `version = 3\nimports = ["conf.d/*.toml"]\n${NEW}`,
      '/etc/containerd/conf.d/x.toml': `[${IMAGES}]\nsnapshotter = "x"\n[${IMAGES}.registry]\nconfig_path = ""\n`,
    }
    assert.equal(await valuesOf('2.1.0', texts), ' true')
  })

  it('takes a version from any file on 2.0 to 2.2, so that an import can stop the migration', async () => {
    const texts = { [MAIN]: `version = 2\nimports = ["x.toml"]\n${BOTH}`, '/etc/containerd/x.toml': 'version = 3\n' }
    assert.equal(await valuesOf('2.1.0', texts), ' false')
  })

  it('follows imports breadth first, each file once, relative ones from the file that names them', async () => {
    const loaded = await read('1.7.24', {
      [MAIN]: 'version = 2\nimports = ["b/b.toml", "./a*.toml", "/etc/containerd/config.toml"]\n',
      '/etc/containerd/a1.toml': 'imports = ["z.toml"]\n',
      '/etc/containerd/a2.toml': '',
      '/etc/containerd/b/b.toml': 'imports = ["deep.toml", "../a2.toml"]\n',
      '/etc/containerd/b/deep.toml': '',
      '/etc/containerd/z.toml': '',
    })
    assert.deepEqual(loaded.problems, [])
    assert.deepEqual(
      loaded.files.map(({ path }) => path.slice('/etc/containerd/'.length)),
      ['config.toml', 'b/b.toml', 'a1.toml', 'a2.toml', 'b/deep.toml', 'z.toml'],
    )
  })

  it('takes drop-ins only where a file imports them, although the default configuration of 2.2 does', async () => {
    const texts = {
      [MAIN]: `version = 3\n${NEW}`,
      '/etc/containerd/conf.d/x.toml': `[${IMAGES}]\ndiscard_unpacked_layers = false\n`,
    }
    assert.equal(await valuesOf('2.2.0', texts), '/new true')
    assert.equal(await valuesOf('2.1.0', texts), '/new true')
    const imports = 'imports = ["/etc/containerd/conf.d/*.toml"]'
    assert.equal(await valuesOf('2.2.0', { ...texts, [MAIN]: `version = 3\n${imports}\n${NEW}` }), '/new false')
  })

  it('names every file that cannot be read, and why', async () => {
    const refused = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
    const loaded = await read('1.7.24', {
      [MAIN]: 'imports = ["/gone.toml", "refused.toml", "broken.toml", "list.toml", "version.toml", "plugins.toml"]\n',
      '/etc/containerd/refused.toml': refused,
      '/etc/containerd/broken.toml': 'a = 1\nb = [\n',
      '/etc/containerd/list.toml': '\nimports = [1]\n',
      '/etc/containerd/version.toml': 'version = "2"\n',
      '/etc/containerd/plugins.toml': 'plugins = 1\n',
    })
    const told = loaded.problems.map(({ kind, file, line, reason }) => `${kind} ${file} ${line ?? ''} ${reason}`)
    assert.deepEqual(told, [
      'missing /gone.toml  it is not there',
      'unreadable /etc/containerd/refused.toml  EACCES: permission denied',
      'invalid /etc/containerd/broken.toml 3 Unspecified values are invalid',
      'invalid /etc/containerd/list.toml 2 `imports` is not a list of texts',
      'invalid /etc/containerd/version.toml 1 `version` is not an integer',
      'invalid /etc/containerd/plugins.toml 1 `plugins` is not a table',
    ])
    assert.equal(loaded.problems[0]?.importedBy, MAIN)
  })

  it('knows the place of a value', async () => {
    const { settings } = await read('1.7.24', {
      [MAIN]: `version = 2\nimports = ["x.toml"]\n${BOTH}`,
      '/etc/containerd/x.toml': `# first\n${BOTH}`,
    })
    const { file, line } = settings.configPath.source ?? assert.fail()
    assert.deepEqual([file, line], ['/etc/containerd/x.toml', 3])
  })

  it('throws nothing and returns the same result twice, for any files', async () => {
    const line = fc.constantFrom(
      ...[
        'version = 1',
        'version = 2',
        'version = 3',
        'version = "x"',
        'imports = ["*.toml"]',
        'imports = "x"',
        '[plugins]',
      ],
      ...[
        'plugins = 1',
        `[${OLD}]`,
        `[${OLD}.registry]`,
        `[${OLD}.containerd.runtimes]`,
        `[${IMAGES}.registry]`,
        OLD,
        '[[',
      ],
      ...[
        `[${OLD}.registry.mirrors]`,
        'config_path = "/a:/b"',
        'config_path = 1',
        'discard_unpacked_layers = true',
        '\0',
      ],
      ...[
        'disabled_plugins = ["cri"]',
        'disabled_plugins = 1',
        `${OLD}.registry = 1`,
        `${OLD}.containerd = []`,
        `${IMAGES} = 1`,
      ],
    )
    const text = fc.oneof(
      fc.array(line, { maxLength: 7 }).map((lines) => lines.join('\n')),
      anyText,
    )
    const version = fc.constantFrom('1.6.0', '1.7.24', '2.0.0', '2.1.0', '2.2.0', '2.3.0', '2.4.0')
    await fc.assert(
      fc.asyncProperty(version, text, text, async (wanted, main, other) => {
        const texts = { [MAIN]: main, '/etc/containerd/other.toml': other, '/etc/containerd/conf.d/x.toml': other }
        const files = memoryFiles(texts)
        const [first, second] = [await readConfig(files, dialectOf(wanted)), await readConfig(files, dialectOf(wanted))]
        assert.deepEqual(first, second)
      }),
      { numRuns: 500 },
    )
  })
})
