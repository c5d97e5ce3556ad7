import assert from 'node:assert/strict'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { readCommandLine } from '../../../lib/settings/read.ts'
import {
  ConfigurationError,
  SETTINGS,
  type SettingName,
  type Settings,
  variableOf,
} from '../../../lib/settings/settings.ts'
import { anyText } from '../../fixtures/arbitrary.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { readSettings } from '../../fixtures/settings.ts'

const HEX = '0123456789abcdef'.repeat(4)
const KEY = Buffer.from(HEX, 'hex')
/** Another swarm key: 32 zeros. */
const OTHER = '0'.repeat(64)
const BASE64URL = KEY.toString('base64url')
const NAMES = Object.keys(SETTINGS) as SettingName[]
/** Doors on loopback, so that no swarm key is needed. */
const LOOPBACK = ['--peer-listen', '127.0.0.1:0']

function read(flags: readonly string[], environment: Record<string, string> = {}): Settings {
  return readSettings({ flags, environment })
}

/** The problems of settings that must not be accepted. */
function problemsOf(flags: readonly string[], environment: Record<string, string> = {}): readonly string[] {
  try {
    read(flags, environment)
  } catch (error) {
    assert.ok(error instanceof ConfigurationError, `${error}`)
    return error.problems
  }
  return assert.fail(`accepted: ${flags.join(' ')}`)
}

test('readSettings gives the defaults when nothing else is needed', () => {
  const settings = read(LOOPBACK)
  assert.deepEqual(settings, {
    listen: { host: '127.0.0.1', port: 5000 },
    'peer-listen': { host: '127.0.0.1', port: 0 },
    'admin-listen': { host: '127.0.0.1', port: 5002 },
    'metrics-listen': undefined,
    page: 'loopback',
    'advertise-host': undefined,
    bootstrap: undefined,
    'swarm-key': undefined,
    'swarm-key-file': undefined,
    store: { kind: 'containerd' },
    'containerd-socket': '/run/containerd/containerd.sock',
    'containerd-namespace': 'k8s.io',
    'containerd-content': undefined,
    'containerd-config': '/etc/containerd/config.toml',
    'certs-dir': '/etc/containerd/certs.d',
    probe: 'on',
    registries: undefined,
    also: undefined,
    'manage-hosts': 'off',
    exclude: undefined,
    resolve: 'fallback',
    'upstream-timeout': 1_000,
    'http-proxy': undefined,
    'https-proxy': undefined,
    'no-proxy': undefined,
    'default-registry': undefined,
    'lookup-timeout': 100,
    'peer-transfer': 'tls',
    'max-transfers': 64,
    'max-upload-rate': undefined,
    'parallel-peers': 3,
    'stall-timeout': 2_000,
    flight: 'on',
    verify: 'on',
    'data-dir': undefined,
    untaint: undefined,
    'log-level': 'info',
  })
})

/** For every setting: texts with their values, and refused texts with the messages. */
const FORMS: { readonly [Name in SettingName]: { accepted: [string, unknown][]; refused: [string, RegExp][] } } = {
  listen: {
    accepted: [
      ['127.0.0.1:0', { host: '127.0.0.1', port: 0 }],
      ['[::1]:65535', { host: '::1', port: 65535 }],
      ['localhost:80', { host: 'localhost', port: 80 }],
    ],
    refused: [
      ['5000', /expected IPv4:port/],
      [':5000', /expected IPv4:port/],
      ['::1:5000', /expected IPv4:port/],
      ['[127.0.0.1]:5000', /expected IPv4:port/],
      ['registry.example:5000', /expected IPv4:port/],
      ['127.0.0.1:65536', /expected a port from 0 to 65535/],
      ['127.0.0.1:', /expected a port/],
      ['127.0.0.1:1e3', /expected a port/],
      ['127.0.0.1: 80', /expected a port/],
      ['', /expected IPv4:port/],
    ],
  },
  'peer-listen': {
    accepted: [['127.0.0.1:7000', { host: '127.0.0.1', port: 7000 }]],
    refused: [
      ['[::1]:7000', /expected IPv4:port: between nodes there is no IPv6/],
      // As the chart writes it on a node whose first address is an IPv6 one.
      ['fd00::1:7000', /expected IPv4:port: between nodes there is no IPv6/],
      ['localhost:7000', /expected IPv4:port: /],
      ['127.0.0.1', /expected IPv4:port: /],
      ['x', /expected IPv4:port: /],
    ],
  },
  'admin-listen': { accepted: [['[::1]:1', { host: '::1', port: 1 }]], refused: [['x:1', /expected IPv4:port/]] },
  'metrics-listen': {
    accepted: [['127.0.0.1:1', { host: '127.0.0.1', port: 1 }]],
    refused: [['1', /expected IPv4:port/]],
  },
  'advertise-host': {
    accepted: [['192.0.2.7', '192.0.2.7']],
    refused: [
      ['0.0.0.0', /expected the IPv4 address/],
      ['node.example', /expected the IPv4 address/],
      ['192.0.2.7:1', /expected the IPv4 address/],
      ['2001:db8::1', /expected the IPv4 address .*: between nodes there is no IPv6/],
    ],
  },
  bootstrap: {
    accepted: [
      ['192.0.2.1:5001', [{ kind: 'host', host: '192.0.2.1', port: 5001 }]],
      [
        ' node.example:1 , dns:swarm.svc.cluster.local:65535,',
        [
          { kind: 'host', host: 'node.example', port: 1 },
          { kind: 'dns', host: 'swarm.svc.cluster.local', port: 65535 },
        ],
      ],
    ],
    refused: [
      ['192.0.2.1', /expected a port from 1 to 65535/],
      ['192.0.2.1:0', /expected a port from 1/],
      ['dns:5001', /expected a port/],
      ['dns:name', /expected a port/],
      ['srv:name:1', /expected IPv4:port, name:port or dns:name:port in "srv:name:1"/],
      ['[::1]:5001', /expected IPv4:port, name:port/],
      ['dns::1', /expected IPv4:port/],
      ['a b:1', /expected IPv4:port/],
    ],
  },
  'swarm-key': {
    accepted: [
      [HEX, [new Uint8Array(KEY)]],
      [HEX.toUpperCase(), [new Uint8Array(KEY)]],
      [BASE64URL, [new Uint8Array(KEY)]],
      [`${BASE64URL}=`, [new Uint8Array(KEY)]],
      [`${HEX},${OTHER}`, [new Uint8Array(KEY), new Uint8Array(32)]],
      [` ${OTHER}\n${BASE64URL}\n`, [new Uint8Array(32), new Uint8Array(KEY)]],
    ],
    refused: [
      [HEX.slice(1), /expected 32 bytes/],
      [`${HEX}0`, /expected 32 bytes/],
      [BASE64URL.slice(1), /expected 32 bytes/],
      [`${BASE64URL}==`, /expected 32 bytes/],
      ['+'.repeat(43), /expected 32 bytes/],
      [`${HEX}${OTHER}`, /expected 32 bytes/],
      [`${HEX},${OTHER},${HEX}`, /expected one swarm key or two/],
      [',', /expected one swarm key or two/],
    ],
  },
  'swarm-key-file': { accepted: [], refused: [['', /expected a text that is not empty/]] },
  store: {
    accepted: [
      ['containerd', { kind: 'containerd' }],
      ['oci-layout:/var/lib/images', { kind: 'oci-layout', dir: '/var/lib/images' }],
      ['oci-layout:images', { kind: 'oci-layout', dir: 'images' }],
      ['oci-layout:/a:b', { kind: 'oci-layout', dir: '/a:b' }],
    ],
    refused: [
      ['oci-layout:', /expected `containerd` or/],
      ['oci-layout', /expected `containerd` or/],
      ['docker', /expected `containerd` or/],
    ],
  },
  'containerd-socket': { accepted: [['/c.sock', '/c.sock']], refused: [['c.sock', /expected an absolute path/]] },
  'containerd-namespace': {
    accepted: [
      ['default', 'default'],
      ['a_b-c.9', 'a_b-c.9'],
      ['a'.repeat(76), 'a'.repeat(76)],
    ],
    refused: [
      ['', /expected letters and digits/],
      ['k8s..io', /expected letters and digits/],
      ['k8s.io ', /expected letters and digits/],
      ['\u540d', /expected letters and digits/],
      ['a'.repeat(77), /at most 76 characters/],
    ],
  },
  'containerd-content': { accepted: [['/c', '/c']], refused: [['./c', /expected an absolute path/]] },
  'containerd-config': { accepted: [['/c.toml', '/c.toml']], refused: [['c.toml', /expected an absolute path/]] },
  'certs-dir': {
    accepted: [['/certs', '/certs']],
    refused: [
      ['certs', /expected an absolute path/],
      ['/etc/containerd/certs.d:/etc/docker/certs.d', /expected one directory, without a colon/],
    ],
  },
  also: {
    accepted: [
      ['all', 'all'],
      ['ghcr.io, all', 'all'],
      ['ghcr.io,registry.example:5000', new Set(['ghcr.io', 'registry.example:5000'])],
    ],
    refused: [['https://ghcr.io', /invalid registry/]],
  },
  registries: {
    accepted: [
      ['docker.io', new Set(['docker.io'])],
      ['index.docker.io, Registry.Example:5000,', new Set(['docker.io', 'registry.example:5000'])],
    ],
    refused: [
      [',', /expected at least one registry/],
      ['https://docker.io', /invalid registry/],
      ['docker.io/library', /invalid registry/],
      ['docker.io:0', /port/],
    ],
  },
  exclude: {
    accepted: [
      ['^docker\\.io, :latest$', [/^docker\.io/u, /:latest$/u]],
      ['', []],
    ],
    refused: [
      ['(', /Invalid regular expression/i],
      ['a{1,3}', /Invalid regular expression/i],
      ['ok,[', /Invalid regular expression/i],
    ],
  },
  resolve: {
    accepted: [
      ['fallback', 'fallback'],
      ['upstream', 'upstream'],
      ['swarm', 'swarm'],
    ],
    refused: [['cached', /expected `fallback`, `upstream` or `swarm`/]],
  },
  'upstream-timeout': {
    accepted: [
      ['10ms', 10],
      ['1.5s', 1_500],
    ],
    refused: [
      ['9ms', /expected at least 10ms/],
      ['61s', /expected at most 1m/],
      ['1', /expected a number with `ms`, `s` or `m`/],
    ],
  },
  'http-proxy': { accepted: [['http://p:1', 'http://p:1']], refused: [['', /not empty/]] },
  'https-proxy': { accepted: [['p:1', 'p:1']], refused: [['', /not empty/]] },
  'no-proxy': { accepted: [['.local,10.0.0.0/8', '.local,10.0.0.0/8']], refused: [['', /not empty/]] },
  'default-registry': {
    accepted: [
      ['docker.io', 'docker.io'],
      ['index.docker.io', 'docker.io'],
      ['Registry.Example:5000', 'registry.example:5000'],
    ],
    refused: [
      ['docker.io/library', /invalid registry/],
      ['https://docker.io', /invalid registry/],
    ],
  },
  'lookup-timeout': {
    accepted: [
      ['1ms', 1],
      ['250ms', 250],
      ['1.5s', 1500],
      ['1m', 60_000],
      // Timers take whole milliseconds.
      ['1.5ms', 2],
    ],
    refused: [
      ['0ms', /expected at least 1ms/],
      ['0.4ms', /expected at least 1ms/],
      ['61s', /expected at most 1m/],
      [`${'9'.repeat(400)}s`, /expected at most 1m/],
      ['100', /expected a number with `ms`, `s` or `m`/],
      ['-1s', /expected a number with/],
      ['1h', /expected a number with/],
      ['1e2ms', /expected a number with/],
    ],
  },
  'parallel-peers': {
    accepted: [
      ['1', 1],
      ['16', 16],
    ],
    refused: [
      ['0', /expected at least 1/],
      ['17', /expected at most 16/],
      ['two', /expected a whole number/],
    ],
  },
  'stall-timeout': {
    accepted: [
      ['100ms', 100],
      ['1m', 60_000],
    ],
    refused: [
      ['99ms', /expected at least 100ms/],
      ['61s', /expected at most 1m/],
      ['2', /expected a number with/],
    ],
  },
  page: {
    accepted: [
      ['on', 'on'],
      ['off', 'off'],
    ],
    refused: [['yes', /expected `loopback`, `on` or `off`/]],
  },
  probe: { accepted: [['off', 'off']], refused: [['no', /expected `on` or `off`/]] },
  'manage-hosts': { accepted: [['on', 'on']], refused: [['yes', /expected `on` or `off`/]] },
  untaint: {
    accepted: [['node-1.example=swarmirror/not-ready', { node: 'node-1.example', key: 'swarmirror/not-ready' }]],
    refused: [
      ['node-1', /expected NODE=KEY/],
      ['=key', /expected NODE=KEY/],
      ['../x=key', /expected NODE=KEY/],
      ['node=key:NoSchedule', /expected NODE=KEY/],
    ],
  },
  flight: { accepted: [['off', 'off']], refused: [['yes', /expected `on` or `off`/]] },
  verify: { accepted: [['off', 'off']], refused: [['no', /expected `on` or `off`/]] },
  'peer-transfer': { accepted: [['plain', 'plain']], refused: [['TLS', /expected `tls` or `plain`/]] },
  'max-transfers': {
    accepted: [
      ['1', 1],
      ['10000', 10_000],
    ],
    refused: [
      ['0', /expected at least 1/],
      ['10001', /expected at most 10000/],
      ['1.5', /expected a whole number/],
      ['-1', /expected a whole number/],
      ['', /expected a whole number/],
    ],
  },
  'max-upload-rate': {
    accepted: [
      ['1000', 1_000],
      ['1k', 1_000],
      ['1.5M', 1_500_000],
      ['2G', 2_000_000_000],
    ],
    refused: [
      ['0', /expected at least 1k/],
      ['999', /expected at least 1k/],
      ['1K', /expected bytes per second/],
      ['1Mi', /expected bytes per second/],
      ['-1k', /expected bytes per second/],
      ['1M/s', /expected bytes per second/],
    ],
  },
  'data-dir': { accepted: [['/data', '/data']], refused: [['data', /expected an absolute path/]] },
  'log-level': { accepted: [['debug', 'debug']], refused: [['trace', /expected one of debug, info, warn, error/]] },
}

for (const name of NAMES) {
  const isKey = name === 'swarm-key'
  // This test is not about the key for doors beyond loopback.
  const base = name === 'peer-listen' ? [] : LOOPBACK

  test(`readSettings reads --${name} in every accepted form, as flag and as variable`, () => {
    for (const [text, value] of FORMS[name].accepted) {
      for (const flags of [[`--${name}=${text}`], [`--${name}`, text]]) {
        assert.deepEqual(read([...base, ...flags])[name], value, text)
      }
      // An empty variable counts as unset.
      if (text !== '') assert.deepEqual(read(base, { [variableOf(name)]: text })[name], value, text)
    }
    const fallback = read(LOOPBACK, { [variableOf(name)]: '' })[name]
    assert.deepEqual(fallback, read(LOOPBACK)[name])
  })

  test(`readSettings refuses --${name} in every other form, and says what is expected and where it was given`, () => {
    for (const [text, said] of FORMS[name].refused) {
      for (const [origin, problems] of [
        [`--${name}`, problemsOf([...base, `--${name}=${text}`])],
        ...(text === '' ? [] : [[variableOf(name), problemsOf(base, { [variableOf(name)]: text })] as const]),
      ] as const) {
        assert.equal(problems.length, name === 'swarm-key-file' ? 2 : 1, problems.join('\n'))
        assert.match(problems[0] ?? '', said)
        const shown = isKey ? `${origin}: ` : `${origin} ${JSON.stringify(text)}: `
        assert.ok(problems[0]?.startsWith(shown), problems[0])
      }
    }
  })
}

test('readSettings lets a flag win over its variable, and a variable over the default', () => {
  const environment = { SWARMIRROR_RESOLVE: 'upstream', SWARMIRROR_LOG_LEVEL: 'debug' }
  const settings = read([...LOOPBACK, '--resolve', 'swarm'], environment)
  assert.equal(settings.resolve, 'swarm')
  assert.equal(settings['log-level'], 'debug')
})

test('readSettings does not look at a variable that a flag overrules', () => {
  assert.equal(read([...LOOPBACK, '--resolve', 'upstream'], { SWARMIRROR_RESOLVE: 'nonsense' }).resolve, 'upstream')
})

test('readSettings takes proxies from the variables that all programs share, unless it has its own', () => {
  const shared = { HTTP_PROXY: 'a:1', http_proxy: 'b:1', https_proxy: 'c:1', NO_PROXY: '', no_proxy: '.d' }
  const settings = read(LOOPBACK, { ...shared, SWARMIRROR_HTTPS_PROXY: 'e:1' })
  const { 'http-proxy': http, 'https-proxy': https, 'no-proxy': except } = settings
  assert.deepEqual([http, https, except], ['a:1', 'e:1', '.d'])
})

test('readSettings tells all problems at once, contradictions too', () => {
  const problems = problemsOf(
    [
      '--resolve',
      'on',
      '--nonsense',
      '--listen',
      '0.0.0.0:5001',
      '--bootstrap',
      '-x',
      'stray',
      '--log-level=loud',
      '-v',
    ],
    { SWARMIRROR_STORE: 'docker', SWARMIRROR_DATA_DIR: 'here' },
  )
  assert.deepEqual(problems, [
    'unknown flag --nonsense; see --help',
    'unexpected argument "stray"',
    'unknown flag -v; see --help',
    '--bootstrap "-x": expected a port from 1 to 65535 after the last colon',
    'SWARMIRROR_STORE "docker": expected `containerd` or `oci-layout:DIR`',
    '--resolve "on": expected `fallback`, `upstream` or `swarm`',
    'SWARMIRROR_DATA_DIR "here": expected an absolute path',
    '--log-level "loud": expected one of debug, info, warn, error',
    '--listen, --peer-listen: a door beyond loopback needs a swarm key; give --swarm-key or --swarm-key-file (`key` prints a fresh one)',
    '--listen and --peer-listen: both on port 5001',
  ])
})

test('readSettings refuses unknown flags, stray arguments, missing values and duplicates', () => {
  for (const [flags, expected] of [
    [
      ['--lisen', '127.0.0.1:1'],
      ['unknown flag --lisen; see --help', 'unexpected argument "127.0.0.1:1"'],
    ],
    [['-l'], ['unknown flag -l; see --help']],
    [['-'], ['unknown flag -; see --help']],
    [['--'], ['unknown flag --; see --help']],
    [[''], ['unexpected argument ""']],
    [['--no-resolve'], ['unknown flag --no-resolve; see --help']],
    [
      ['--constructor=x', '--__proto__=x'],
      ['unknown flag --constructor; see --help', 'unknown flag --__proto__; see --help'],
    ],
    [['--resolve'], ['--resolve: expected a value']],
    // The next flag counts as a flag, and not as the missing value.
    [
      ['--resolve', '--log-level', 'loud'],
      ['--resolve: expected a value', /^--log-level "loud"/],
    ],
    [['--resolve', 'swarm', '--resolve=upstream'], ['--resolve: given more than once']],
  ] satisfies [string[], (string | RegExp)[]][]) {
    const problems = problemsOf([...LOOPBACK, ...flags])
    assert.equal(problems.length, expected.length, problems.join('\n'))
    for (const [index, problem] of expected.entries()) {
      if (typeof problem === 'string') assert.equal(problems[index], problem)
      else assert.match(problems[index] ?? '', problem)
    }
  }
})

test('readSettings demands a swarm key for every door beyond loopback, and names them', () => {
  assert.match(problemsOf([])[0] ?? '', /^--peer-listen: a door beyond loopback needs a swarm key/)
  for (const [flags, doors] of [
    [[...LOOPBACK, '--listen', '192.0.2.1:1'], '--listen'],
    [[...LOOPBACK, '--admin-listen', '[::]:1'], '--admin-listen'],
    [[...LOOPBACK, '--metrics-listen', '0.0.0.0:1'], '--metrics-listen'],
    [['--admin-listen', '0.0.0.0:1', '--listen', '[2001:db8::1]:1'], '--listen, --peer-listen, --admin-listen'],
  ] satisfies [string[], string][]) {
    assert.ok(problemsOf(flags)[0]?.startsWith(`${doors}: a door beyond loopback`), doors)
  }
  assert.deepEqual(read(['--swarm-key', HEX])['swarm-key'], [new Uint8Array(KEY)])
  for (const host of ['127.0.0.1', '127.9.9.9']) read(['--peer-listen', `${host}:1`])
  for (const host of ['[::1]', 'localhost']) read([...LOOPBACK, '--listen', `${host}:1`])
})

test('readSettings refuses doors on one port, where the addresses overlap', () => {
  const ports = (listen: string, peer: string, admin: string) => [
    ...['--listen', listen, '--peer-listen', peer, '--admin-listen', admin, '--swarm-key', HEX],
  ]
  assert.deepEqual(problemsOf(ports('127.0.0.1:1', '127.0.0.1:1', '127.0.0.1:1')), [
    '--listen and --peer-listen: both on port 1',
    '--listen and --admin-listen: both on port 1',
    '--peer-listen and --admin-listen: both on port 1',
  ])
  assert.equal(problemsOf(ports('127.0.0.1:1', '0.0.0.0:1', '127.0.0.1:2')).length, 1)
  assert.equal(problemsOf(ports('[::]:1', '127.0.0.1:2', '127.0.0.1:1')).length, 1)
  assert.equal(
    problemsOf([...ports('127.0.0.1:1', '127.0.0.1:2', '127.0.0.1:3'), '--metrics-listen', '[::]:3']).length,
    1,
  )
  read(ports('127.0.0.1:0', '127.0.0.1:0', '127.0.0.1:0'))
  read(ports('127.0.0.1:1', '127.0.0.2:1', '[::1]:1'))
})

test('readSettings reads the swarm key from a file, with white space around it', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'key')
    await writeFile(path, `  ${BASE64URL}\r\n\n`)
    for (const settings of [read(['--swarm-key-file', path]), read([], { SWARMIRROR_SWARM_KEY_FILE: path })]) {
      assert.deepEqual(settings['swarm-key'], [new Uint8Array(KEY)])
    }
    await writeFile(path, `${OTHER}\n${HEX}\n`)
    assert.deepEqual(read(['--swarm-key-file', path])['swarm-key'], [new Uint8Array(32), new Uint8Array(KEY)])
    await writeFile(path, `${HEX}${HEX}\n`)
    assert.deepEqual(problemsOf(['--swarm-key-file', path]), [
      '--swarm-key-file: expected 32 bytes as 64 hexadecimal digits or 43 characters of base64url (`key` prints a fresh one)',
    ])
    const missing = join(dir, 'missing')
    const problems = problemsOf(['--swarm-key-file', missing])
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /^--swarm-key-file ".*missing": .*(ENOENT|no such file)/i)
    assert.equal(problemsOf(['--swarm-key-file', dir]).length, 1)
  })
})

test('readCommandLine warns of a key file that others may read, and of a key that is an argument', async () => {
  const warningsOf = (flags: readonly string[], environment: Record<string, string> = {}) =>
    readCommandLine({ flags, environment }, {}).warnings
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'key')
    await writeFile(path, HEX)
    for (const [mode, isWarned] of [
      [0o600, false],
      [0o640, false],
      [0o644, true],
      [0o604, true],
    ] as const) {
      await chmod(path, mode)
      const warnings = warningsOf(['--swarm-key-file', path])
      const expected = `--swarm-key-file ${JSON.stringify(path)}: every user of this machine may read it; use chmod o= on it`
      assert.deepEqual(warnings, isWarned ? [expected] : [])
    }
    assert.match(warningsOf([], { SWARMIRROR_SWARM_KEY_FILE: path })[0] ?? '', /^SWARMIRROR_SWARM_KEY_FILE "/)
  })
  assert.deepEqual(warningsOf([`--swarm-key=${HEX}`]), [
    '--swarm-key: everybody on this machine sees it in the list of processes; use --swarm-key-file',
  ])
  assert.deepEqual(warningsOf([], { SWARMIRROR_SWARM_KEY: HEX }), [])
  assert.deepEqual(warningsOf(LOOPBACK), [])
})

test('readSettings refuses a key and a key file together, wherever they come from', () => {
  for (const problems of [
    problemsOf(['--swarm-key', HEX, '--swarm-key-file', '/key']),
    problemsOf(['--swarm-key', HEX], { SWARMIRROR_SWARM_KEY_FILE: '/key' }),
    problemsOf([], { SWARMIRROR_SWARM_KEY: HEX, SWARMIRROR_SWARM_KEY_FILE: '/key' }),
  ]) {
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /give one of them, not both$/)
  }
})

test('readSettings refuses --also beside --registries, and names both where they were given', () => {
  assert.deepEqual(problemsOf(['--registries', 'ghcr.io', '--swarm-key', HEX], { SWARMIRROR_ALSO: 'all' }), [
    '--registries and SWARMIRROR_ALSO: SWARMIRROR_ALSO adds to all registries; with --registries, name them all there',
  ])
})

const anyValue = fc.oneof(anyText, fc.constantFrom('', ',', '0', '=', '--', '\n', '127.0.0.1:1', 'off'))
const anyName = fc.oneof(
  fc.constantFrom(...NAMES),
  fc.string(),
  fc.constantFrom('constructor', '__proto__', 'toString'),
)
const anyFlag = fc.oneof(
  anyName.map((name) => `--${name}`),
  fc.tuple(anyName, anyValue).map(([name, text]) => `--${name}=${text}`),
  anyValue,
)
const anyEnvironment = fc
  .array(fc.tuple(fc.constantFrom(...NAMES), anyValue))
  .map((entries) => Object.fromEntries(entries.map(([name, text]) => [variableOf(name), text])))

test('readSettings gives settings or problems of one line each, whatever it is given', () => {
  fc.assert(
    fc.property(fc.array(anyFlag, { maxLength: 8 }), anyEnvironment, (flags, environment) => {
      try {
        assert.deepEqual(Object.keys(read(flags, environment)), NAMES)
      } catch (error) {
        assert.ok(error instanceof ConfigurationError, `${error}`)
        assert.ok(error.problems.length > 0)
        for (const problem of error.problems) assert.doesNotMatch(problem, /[\p{Cc}\u2028\u2029]/u)
        assert.equal(error.message.split('\n').length, error.problems.length)
      }
    }),
    { numRuns: 500 },
  )
})

test('readSettings never tells a swarm key, wherever it was put', () => {
  const bytes = fc.uint8Array({ minLength: 32, maxLength: 32 })
  const aKey = bytes.chain((key) =>
    fc.constantFrom(Buffer.from(key).toString('hex'), Buffer.from(key).toString('base64url')),
  )
  const places = (key: string) =>
    fc.oneof(
      anyName.map((name) => [`--${name}`, key]),
      anyName.map((name) => [`--${name}=${key}`]),
      fc.constantFrom([key], [`-${key}`], [`--${key}`], [`-k=${key}`], ['--swarm-key', key, key]),
      fc.constantFrom([`${OTHER},${key}`], ['--listen', `${key}, ${OTHER}`], [`--listen=${key}\n${key}`]),
      fc.constantFrom([`--bootstrap=${key}:1`], ['--exclude', `(${key}`], [`--registries=_${key}`]),
      fc.constantFrom([`--default-registry=x/${key}`], ['--bootstrap', `dns:${key}.`], [`"${key}="`]),
    )
  const given = aKey.chain((key) =>
    fc.tuple(
      fc.constant(key),
      fc.array(places(key), { minLength: 1, maxLength: 3 }),
      fc.option(fc.constantFrom(...NAMES), { nil: undefined }),
    ),
  )
  fc.assert(
    fc.property(given, ([key, flags, name]) => {
      const environment: Record<string, string> = name === undefined ? {} : { [variableOf(name)]: key }
      try {
        read(flags.flat(), environment)
      } catch (error) {
        assert.ok(error instanceof ConfigurationError, `${error}`)
        assert.ok(!error.message.toLowerCase().includes(key.toLowerCase()), error.message)
      }
    }),
    { numRuns: 300 },
  )
})
