import assert from 'node:assert/strict'
import { join, normalize } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { OciError } from '../../../lib/oci/error.ts'
import { type ContentTarget, parseRequestPath } from '../../../lib/oci/path.ts'
import { parseReference } from '../../../lib/oci/reference.ts'
import * as arbitrary from '../../fixtures/arbitrary.ts'

const SHA = `sha256:${'0123456789abcdef'.repeat(4)}`

for (const [pathname, ns, expected] of [
  ['/v2/', undefined, undefined],
  ['/v2', undefined, undefined],
  ['/v2/library/alpine/manifests/3.20', 'docker.io', ['docker.io', 'library/alpine', { tag: '3.20' }]],
  ['/v2/alpine/manifests/3.20', undefined, ['docker.io', 'library/alpine', { tag: '3.20' }]],
  ['/v2/alpine/manifests/3.20', 'docker.io', ['docker.io', 'library/alpine', { tag: '3.20' }]],
  ['/v2/alpine/manifests/3.20', 'index.docker.io', ['docker.io', 'library/alpine', { tag: '3.20' }]],
  ['/v2/docker.io/alpine/manifests/3.20', undefined, ['docker.io', 'library/alpine', { tag: '3.20' }]],
  ['/v2/app/manifests/1', 'GHCR.io', ['ghcr.io', 'app', { tag: '1' }]],
  ['/v2/ghcr.io/team/app/manifests/1', undefined, ['ghcr.io', 'team/app', { tag: '1' }]],
  ['/v2/host:5000/app/manifests/1', undefined, ['host:5000', 'app', { tag: '1' }]],
  ['/v2/localhost/app/manifests/1', undefined, ['localhost', 'app', { tag: '1' }]],
  ['/v2/[::1]:5000/app/manifests/1', undefined, ['[::1]:5000', 'app', { tag: '1' }]],
  ['/v2/app/manifests/1', '[::1]:5000', ['[::1]:5000', 'app', { tag: '1' }]],
  ['/v2/my.team/app/manifests/1', 'ghcr.io', ['ghcr.io', 'my.team/app', { tag: '1' }]],
  [`/v2/team/app/manifests/${SHA}`, 'ghcr.io', ['ghcr.io', 'team/app', { digest: SHA }]],
  ['/v2/a/blobs/b/tags/manifests/manifests/x', 'ghcr.io', ['ghcr.io', 'a/blobs/b/tags/manifests', { tag: 'x' }]],
  ['/v2/team/blobs/uploads/manifests/x', 'ghcr.io', ['ghcr.io', 'team/blobs/uploads', { tag: 'x' }]],
  [`/v2/team/app/manifests/${SHA.replace(':', '%3A')}`, 'ghcr.io', ['ghcr.io', 'team/app', { digest: SHA }]],
  ['/v2/host%3a5000/app/manifests/1', undefined, ['host:5000', 'app', { tag: '1' }]],
  [`/v2/team/app/blobs/${SHA}`, 'ghcr.io', { kind: 'blob', registry: 'ghcr.io', repository: 'team/app', digest: SHA }],
  [`/v2/x/blobs/${SHA}`, undefined, { kind: 'blob', registry: 'docker.io', repository: 'library/x', digest: SHA }],
  ['/v2/_catalog', undefined, undefined],
  ['/v2/team/app/tags/list', undefined, undefined],
  [`/v2/team/app/referrers/${SHA}`, undefined, undefined],
  ['/v2/team/app/blobs/uploads/', undefined, undefined],
  ['/v2/team/app/blobs/uploads/a-b-c', undefined, undefined],
  ['', undefined, undefined],
  ['/', undefined, undefined],
  ['/v1/', undefined, undefined],
  ['/v2foo', undefined, undefined],
  ['/v2//', undefined, undefined],
  ['/v2/alpine', undefined, undefined],
  ['/v2/alpine/manifests', undefined, undefined],
  ['/v2/alpine/other/x', undefined, undefined],
  ['//v2/a/manifests/latest', undefined, undefined],
  ['/v2/manifests/latest', undefined, undefined],
  ['/v2/a/manifests/../../etc/passwd', undefined, undefined],
  ['/v2/a/blobs/sha256:../../../../etc/passwd', undefined, undefined],
] as const) {
  test(`parseRequestPath reads ${pathname}${ns === undefined ? '' : `?ns=${ns}`}`, () => {
    const target =
      expected === undefined || 'kind' in expected
        ? expected
        : { kind: 'manifest', registry: expected[0], repository: expected[1], ...expected[2] }
    assert.deepEqual(parseRequestPath(pathname, ns, 'docker.io'), target)
  })
}

for (const [pathname, ns] of [
  ['/v2/alpine/manifests/', undefined],
  ['/v2/ghcr.io/manifests/latest', undefined],
  ['/v2//manifests/latest', undefined],
  ['/v2/a//b/manifests/latest', undefined],
  ['/v2/../v2/a/manifests/latest', undefined],
  ['/v2/a/../b/manifests/latest', 'ghcr.io'],
  ['/v2/a/./b/manifests/latest', 'ghcr.io'],
  ['/v2/a/manifests/..', undefined],
  ['/v2/a/manifests/%2e%2e', undefined],
  ['/v2/a%2Fb/manifests/latest', undefined],
  ['/v2/a/manifests/x%00', undefined],
  ['/v2/a/manifests/x\0', undefined],
  ['/v2/a/manifests/x%253A', undefined],
  [`/v2/a/blobs/${SHA.replace(':', '%3A')}%2f`, undefined],
  ['/v2/a\n/manifests/x', undefined],
  ['/v2/a\\b/manifests/x', undefined],
  ['/v2/a/manifests/x?y', undefined],
  ['/v2/ä/manifests/x', undefined],
  ['/v2/A/manifests/x', undefined],
  [`/v2/a/manifests/${'x'.repeat(129)}`, undefined],
  [`/v2/${'a/'.repeat(200)}manifests/x`, undefined],
  ['/v2/a/blobs/latest', undefined],
  ['/v2/team/app/blobs/uploads', undefined],
  [`/v2/a/blobs/md5:${'0'.repeat(32)}`, undefined],
  [`/v2/a/blobs/${SHA.toUpperCase()}`, undefined],
  ['/v2/a/manifests/x', ''],
  ['/v2/a/manifests/x', 'a/b'],
  ['/v2/a/manifests/x', '../..'],
  ['/v2/a/manifests/x', 'host:99999'],
  ['/v2/a/manifests/x', 'h\0'],
] as const) {
  test(`parseRequestPath refuses ${JSON.stringify(pathname.slice(0, 60))}${ns === undefined ? '' : ` with ns ${JSON.stringify(ns)}`}`, () => {
    assert.throws(
      () => parseRequestPath(pathname, ns, 'docker.io'),
      (error) => error instanceof OciError && error.status === 400 && error.message !== '',
    )
  })
}

test('parseRequestPath gives a tag no registry that nobody named, but a digest one', () => {
  for (const pathname of ['/v2/alpine/manifests/3.20', '/v2/team/app/manifests/3.20']) {
    assert.throws(
      () => parseRequestPath(pathname, undefined),
      (error) => error instanceof OciError && error.status === 404 && /names no registry/.test(error.message),
    )
    assert.equal(parseRequestPath(pathname, 'ghcr.io')?.kind, 'manifest')
    const target = parseRequestPath(pathname, undefined, 'ghcr.io')
    assert.equal(target?.registry, 'ghcr.io')
  }
  for (const kind of ['manifest', 'blob']) {
    const target = parseRequestPath(`/v2/alpine/${kind}s/${SHA}`, undefined)
    assert.deepEqual([target?.kind, target?.registry, target?.repository], [kind, 'docker.io', 'library/alpine'])
  }
})

test('parseRequestPath says which character a path may not have', () => {
  assert.throws(
    () => parseRequestPath('/v2/a%2Fb/manifests/x', undefined),
    /character "%" at 5; .* without percent-encoding/,
  )
  assert.throws(() => parseRequestPath('/v2/a/manifests/x\0', undefined), /character "\\u0000" at 17/)
})

test('parseRequestPath finds again what a client asks for, with ns and with the registry in the path', () => {
  fc.assert(
    fc.property(arbitrary.reference, ({ registry, repository, tag, digest }) => {
      const reference = digest === undefined ? { tag } : { digest }
      const expected = { kind: 'manifest', registry, repository, ...reference }
      const end = `${repository}/manifests/${digest ?? tag}`
      assert.deepEqual(parseRequestPath(`/v2/${end}`, registry), expected)
      assert.deepEqual(parseRequestPath(`/v2/${registry}/${end}`, undefined), expected)
      if (digest === undefined) return
      const blob = parseRequestPath(`/v2/${repository}/blobs/${digest}`, registry)
      assert.deepEqual(blob, { kind: 'blob', registry, repository, digest })
    }),
  )
})

test('parseRequestPath turns garbage into a valid target or a 4xx, and nothing that it accepts leaves a directory', () => {
  const pathname = fc.oneof(
    arbitrary.garbage,
    arbitrary.garbage.map((text) => `/v2/${text}`),
    fc.tuple(arbitrary.garbage, arbitrary.garbage).map(([name, end]) => `/v2/${name}/manifests/${end}`),
    fc.tuple(arbitrary.garbage, arbitrary.digest).map(([name, digest]) => `/v2/${name}/blobs/${digest}`),
  )
  fc.assert(
    fc.property(
      pathname,
      fc.option(fc.oneof(arbitrary.registry, arbitrary.garbage), { nil: undefined }),
      (path, ns) => {
        let target: ContentTarget | undefined
        try {
          target = parseRequestPath(path, ns)
        } catch (error) {
          if (!(error instanceof OciError)) throw error
          assert.ok(error.status >= 400 && error.status < 500)
          return
        }
        for (const text of namesIn(target)) {
          assert.match(text, /^[A-Za-z0-9._:/[\]-]+$/)
          assert.ok(normalize(join('/root/store', text)).startsWith('/root/store/'), text)
          assert.ok(!text.split('/').some((part) => part === '' || part === '.' || part === '..'), text)
        }
      },
    ),
    { numRuns: 2000 },
  )
})

function namesIn(target: ContentTarget | undefined): string[] {
  if (target === undefined) return []
  const { registry, repository, tag, digest } = target
  if (target.kind === 'blob') return [registry, repository, target.digest]
  // The repository and tag are such as a reference may have, too.
  const last = digest === undefined ? `:${tag}` : `@${digest}`
  const name = /[.:]|^localhost$/.test(registry) ? registry : undefined
  if (name !== undefined) assert.equal(parseReference(`${name}/${repository}${last}`).repository, repository)
  return [registry, repository, digest ?? tag]
}
