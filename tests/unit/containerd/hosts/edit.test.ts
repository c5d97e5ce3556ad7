import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parse } from 'smol-toml'
import { NEWEST, OLDEST } from '../../../../lib/containerd/dialect.ts'
import { putIn, takeOut, verifyEdit } from '../../../../lib/containerd/hosts/edit.ts'
import { HostsError } from '../../../../lib/containerd/hosts/endpoint.ts'
import type { MirrorEntry } from '../../../../lib/containerd/hosts/mirror-entry.ts'
import { readHosts } from '../../../../lib/containerd/hosts/reading.ts'
import { hostsToml } from './arbitrary.ts'

const URL = 'http://127.0.0.1:5000'

const mirrorEntry: fc.Arbitrary<MirrorEntry> = fc.record({
  url: fc.constantFrom(URL, 'http://[::1]:5000', 'http://localhost:80'),
  capabilities: fc.constantFrom(['pull'] as const, ['pull', 'resolve'] as const),
})

/** The meaning of a file to another parser than the one that edits. */
function otherHosts(text: string, mirror: MirrorEntry): unknown {
  const root = parse(text) as { host?: Record<string, unknown> }
  if (root.host !== undefined) {
    delete root.host[mirror.url]
    if (Object.keys(root.host).length === 0) delete root.host
  }
  return JSON.parse(JSON.stringify(root))
}

test('putIn puts the mirror first in any hosts.toml and changes nothing else; takeOut restores the bytes', () => {
  fc.assert(
    fc.property(hostsToml, mirrorEntry, (text, mirror) => {
      const edited = putIn(text, mirror, false)
      const sixth = mirror.url.includes('[')
      for (const dialect of [OLDEST, NEWEST].filter(({ is1x }) => !(sixth && is1x))) {
        const before = readHosts(text, dialect)
        const after = readHosts(edited, dialect)
        assert.ok(before.kind === 'hosts' && after.kind === 'hosts', `${before.kind} ${after.kind}`)
        const shape = (host: { name: string; capabilities: readonly string[] }) => [host.name, host.capabilities.join()]
        assert.deepEqual(after.hosts.map(shape), [[mirror.url, mirror.capabilities.join()], ...before.hosts.map(shape)])
        assert.equal(after.server.url, before.server.url)
      }
      assert.deepEqual(otherHosts(edited, mirror), otherHosts(text, mirror))
      if (sixth) assert.throws(() => verifyEdit(text, edited, mirror), HostsError)
      else verifyEdit(text, edited, mirror)
      assert.equal(takeOut(edited)?.rest, text)
    }),
  )
})

test('putIn replaces what it wrote before, and changes nothing the second time', () => {
  fc.assert(
    fc.property(hostsToml, mirrorEntry, mirrorEntry, (text, first, second) => {
      const once = putIn(text, first, false)
      const again = putIn(takeOut(once)?.rest ?? '', second, false)
      assert.equal(again, putIn(text, second, false))
    }),
  )
})

test("putIn keeps the file's line endings, and writes after the keys of the root", () => {
  const mirror: MirrorEntry = { url: URL, capabilities: ['pull'] }
  const text = 'server = "https://a"\r\nskip_verify = true\r\n\r\n# why b\r\n[host."b"]\r\n'
  const lines = putIn(text, mirror, false).split('\r\n')
  assert.deepEqual(lines, [
    'server = "https://a"',
    'skip_verify = true',
    '',
    '# >>> swarmirror hosts',
    '# Written by `swarmirror hosts`; `swarmirror hosts --remove` takes out all between these comments.',
    '[host."http://127.0.0.1:5000"]',
    '  capabilities = ["pull"]',
    '# <<< swarmirror hosts',
    '# why b',
    '[host."b"]',
    '',
  ])
})

test('putIn replaces a table that somebody wrote for the same URL, in any spelling', () => {
  const mirror: MirrorEntry = { url: URL, capabilities: ['pull'] }
  for (const name of [URL, `${URL}/`, `${URL}/v2`, 'HTTP://127.0.0.1:5000'.replace('HTTP', 'http')]) {
    const text = `[host."https://a"]\n[host."${name}"]\n  capabilities = ["push"]\n[host."${name}".header]\n  x = "y"\n# end`
    const edited = putIn(text, mirror, false)
    verifyEdit(text, edited, mirror)
    assert.equal(takeOut(edited)?.rest, '[host."https://a"]\n# end')
  }
})

const REFUSED: readonly (readonly [why: string, text: string, message: RegExp, line: number])[] = [
  ['a dotted key', 'server = "https://a"\nhost."https://b".capabilities = ["pull"]\n', /dotted keys/, 2],
  ['an inline table', 'host = { "https://b" = { capabilities = ["pull"] } }\n', /inline table/, 1],
  ['the mirror as a dotted key', `[host]\n"${URL}".capabilities = ["pull"]\n`, /not as a table/, 2],
]

for (const [why, text, message, line] of REFUSED) {
  test(`putIn refuses a file with ${why}, and says where`, () => {
    const mirror: MirrorEntry = { url: URL, capabilities: ['pull'] }
    assert.throws(
      () => putIn(text, mirror, false),
      (error) => error instanceof HostsError && message.test(error.message) && error.line === line,
    )
  })
}

test("takeOut refuses when others' lines have become part of our table", () => {
  const mirror: MirrorEntry = { url: URL, capabilities: ['pull'] }
  const edited = putIn('server = "https://a"\n', mirror, false)
  for (const added of ['skip_verify = true\n', `[host."${URL}".header]\nx = "y"\n`]) {
    assert.throws(() => takeOut(edited + added), /belong to its table/)
  }
})

test('takeOut finds nothing in files of others, and refuses a block that is not whole', () => {
  fc.assert(fc.property(hostsToml, (text) => assert.equal(takeOut(text), undefined)))
  const mirror: MirrorEntry = { url: URL, capabilities: ['pull'] }
  const text = putIn('', mirror, true)
  assert.equal(takeOut(text)?.isNewFile, true)
  const cut = text.split('\n')
  const halves = [
    cut.slice(1),
    cut.slice(0, -2),
    [...cut, ...cut.slice(0, 1)],
    cut.map((line) => line.replace('new', 'old')),
  ]
  for (const half of halves) assert.throws(() => takeOut(half.join('\n')), HostsError, half.join('\n'))
})
