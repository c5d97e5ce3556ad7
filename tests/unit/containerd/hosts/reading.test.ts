import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { dialectOf, NEWEST, OLDEST } from '../../../../lib/containerd/dialect.ts'
import { type HostsReading, readHosts } from '../../../../lib/containerd/hosts/reading.ts'
import { hostsToml } from './arbitrary.ts'

const OLD = dialectOf('1.7.24~ds1')
const NEW = dialectOf('v2.2.0')

/** The names of the hosts in the order in which containerd asks them, or why there are none. */
function summary(reading: HostsReading): string {
  if (reading.kind === 'hosts') return reading.hosts.map(({ name }) => name).join(' ')
  return reading.kind === 'discarded' ? `discarded: ${reading.reason}` : reading.kind
}

const FANCY = 'a bracket or a backslash within a header, which containerd 1.x does not read'
const DUPLICATE = 'discarded: Defining a key multiple times is invalid'

const READINGS: readonly (readonly [what: string, text: string, old: string, fresh: string])[] = [
  ['an empty file', '', 'empty', 'empty'],
  ['a file of comments', '# nothing\n', 'discarded: no [host] table, which this version of containerd demands', ''],
  [
    'a file with a server alone',
    'server = "https://a"',
    'discarded: no [host] table, which this version of containerd demands',
    '',
  ],
  ['hosts in their order', '[host."z"]\n[host."a"]\n[host."m".header]\n[host.z.header]\n', 'z a m', 'z a m'],
  ['dotted keys', 'host."a".capabilities=["pull"]\n[host."b"]\n', 'b', 'b'],
  ['an inline table', 'host = { a = { capabilities = ["pull"] }, b = {} }\n', '', ''],
  ['hosts below [host]', '[host]\n"a".capabilities=["pull"]\nb={}\n[host.c]\n', 'c', 'c'],
  [
    'referrers',
    '[host."a"]\ncapabilities = ["pull", "referrers"]\n',
    'discarded: capability "referrers", which this version does not know',
    'a',
  ],
  [
    'an unknown capability',
    '[host."a"]\ncapabilities = ["fly"]\n',
    'discarded: capability "fly", which this version does not know',
    'discarded: capability "fly", which this version does not know',
  ],
  [
    'a wrong one of an ignored host',
    'host."a".capabilities=["fly"]\n[host."b"]\n',
    'discarded: capability "fly", which this version does not know',
    'discarded: capability "fly", which this version does not know',
  ],
  [
    'a dial_timeout that is no duration',
    '[host."a"]\ndial_timeout = "soon"\n',
    'a',
    'discarded: dial_timeout is not a duration such as "1s"',
  ],
  [
    'a byte order mark',
    '\ufeff[host."a"]\n',
    'discarded: a byte order mark: save the file without it',
    'discarded: a byte order mark: save the file without it',
  ],
  ['the name of an IPv6 address', '[host."http://[::1]:5000"]\n', `discarded: ${FANCY}`, 'http://[::1]:5000'],
  ['an escape in a header', '[host."http://\\u0061"]\n', `discarded: ${FANCY}`, 'http://a'],
  ['brackets elsewhere', '[host.a] # ]\n[host.a.header]\n"x[]" = "[]"\n', 'a', 'a'],
  ['ends of lines as on Windows', '[host."a"]\r\ncapabilities = ["pull"]\r\n', 'a', 'a'],
  [
    'keys that are names of objects',
    '[host."__proto__"]\n[host.constructor]\n',
    '__proto__ constructor',
    '__proto__ constructor',
  ],
  ['a table twice', '[host."a"]\n[host."a"]\n', DUPLICATE, DUPLICATE],
  ['a key twice', '[host."a"]\nca = "x"\nca = "y"\n', DUPLICATE, DUPLICATE],
  ['an array of hosts', '[[host]]\n', 'discarded: an array of hosts', 'discarded: an array of hosts'],
  [
    'a host that is no table',
    '[host]\na = 1\n',
    'discarded: host a is not a table',
    'discarded: host a is not a table',
  ],
  [
    'a host that is no URL',
    '[host."http://a b"]\n',
    'discarded: "http://a b" is not a URL',
    'discarded: "http://a b" is not a URL',
  ],
  [
    'a port that is no number',
    '[host."http://a:x"]\n',
    'discarded: "http://a:x" is not a URL',
    'discarded: "http://a:x" is not a URL',
  ],
  [
    'capabilities of another type',
    '[host."a"]\ncapabilities = "pull"\n',
    'discarded: capabilities is not a list of strings',
    'discarded: capabilities is not a list of strings',
  ],
  [
    'a root of another type',
    'skip_verify = "yes"\n[host."a"]\n',
    'discarded: skip_verify is neither true nor false',
    'discarded: skip_verify is neither true nor false',
  ],
  [
    'a client of three',
    '[host."a"]\nclient = [["a", "b", "c"]]\n',
    'discarded: client is neither a string nor a list of strings and of pairs of strings',
    'discarded: client is neither a string nor a list of strings and of pairs of strings',
  ],
]

for (const [what, text, old, fresh] of READINGS) {
  test(`readHosts reads ${what} as containerd does`, () => {
    assert.equal(summary(readHosts(text, OLD)), old)
    assert.equal(summary(readHosts(text, NEW)), fresh)
  })
}

test('readHosts reports the place where a file is not TOML', () => {
  const reading = readHosts('server = "a"\n[host."b"]\n  ca = ]\n', NEW)
  assert.ok(reading.kind === 'discarded')
  assert.equal(reading.line, 3)
  assert.ok((reading.column ?? 0) > 0, `${reading.column}`)
})

test('readHosts returns URLs, capabilities and lines as containerd understands them', () => {
  const text = [
    'server = "registry.example"',
    '[host."mirror.example:8443/v2/"]',
    '[host."http://a/cache"]',
    'capabilities = ["PULL"]',
    '[host."https://B/x/../y"]',
    'override_path = true',
    'capabilities = []',
  ].join('\n')
  const reading = readHosts(text, OLD)
  assert.ok(reading.kind === 'hosts')
  assert.deepEqual(
    reading.hosts.map(({ url, capabilities, line }) => [url, capabilities.join(), line]),
    [
      ['https://mirror.example:8443/v2', 'pull,resolve,push', 2],
      ['http://a/cache/v2', 'pull', 3],
      ['https://b/y', 'pull,resolve,push', 5],
    ],
  )
  assert.equal(reading.server.url, 'https://registry.example/v2')
})

test('readHosts reads every valid file, and never throws, whatever its input', () => {
  fc.assert(
    fc.property(hostsToml, (text) => {
      for (const dialect of [OLDEST, NEWEST]) assert.equal(readHosts(text, dialect).kind, 'hosts', text)
    }),
  )
  const piece = fc.constantFrom(
    '[',
    ']',
    'host',
    '"',
    '.',
    '=',
    '\n',
    'a',
    '{',
    '}',
    ',',
    '#',
    '1',
    "'",
    '\r',
    '\u0000',
    'é',
  )
  const anything = fc.oneof(
    fc.string(),
    fc.array(piece).map((pieces) => pieces.join('')),
  )
  fc.assert(fc.property(anything, (text) => void readHosts(text, dialectOf(undefined))))
})
