import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'
import { put, refusal, write } from './planning.ts'

test('planWrite refuses to take a registry away from what others wrote in _default', async () => {
  await withTemporaryDirectory(async (certs) => {
    const text = '[host."https://company-mirror"]\n'
    await put(join(certs, '_default', 'hosts.toml'), text)
    assert.match(await refusal(certs, ['ghcr.io']), /counts for it.*leave out --registries/)
    assert.deepEqual(await write(certs, ['_default']), { '_default/hosts.toml': 'update' })
    assert.match(await refusal(certs, ['ghcr.io']), /counts for it/)
  })
  await withTemporaryDirectory(async (certs) => {
    await write(certs, ['_default'])
    assert.deepEqual(await write(certs, ['ghcr.io']), { 'ghcr.io/hosts.toml': 'create' })
  })
})

const BROKEN: readonly (readonly [what: string, text: string | Buffer, reason: RegExp])[] = [
  ['is not TOML', 'a = 1\n[host."b"\n', /^line 3, column \d+: /],
  ['has an unknown capability', '[host."b"]\ncapabilities = ["fly"]\n', /^line 2: capability "fly"/],
  ['has dotted hosts', 'host."b".skip_verify = true\n', /^line 1, column 1: hosts as dotted keys/],
  ['is not UTF-8', Buffer.from([0x23, 0xff, 0x0a]), /^not UTF-8/],
  [
    'begins with a byte order mark',
    '\ufeff[host."b"]\n',
    /^line 1, column 1: a byte order mark: save the file without it/,
  ],
  ['has a table twice', '[host."b"]\n[host."b"]\n', /^line 2, column \d+: /],
  ['has half of our block', '# >>> swarmirror hosts\n[host."b"]\n', /^line 1: the comments/],
]

for (const [what, text, reason] of BROKEN) {
  test(`planWrite refuses a file that ${what}`, async () => {
    await withTemporaryDirectory(async (certs) => {
      await mkdir(join(certs, 'docker.io'))
      await writeFile(join(certs, 'docker.io', 'hosts.toml'), text)
      assert.match(await refusal(certs, ['docker.io', 'ghcr.io']), reason)
    })
  })
}

test('planWrite refuses pipes, devices, directories and huge files, and does not wait for them', async () => {
  await withTemporaryDirectory(async (certs) => {
    const path = join(certs, 'docker.io', 'hosts.toml')
    await mkdir(dirname(path))
    for (const [make, reason] of [
      [() => promisify(execFile)('mkfifo', [path]), /^EINVAL: .* is not a file$/],
      [() => symlink('/dev/zero', path), /^EINVAL: .* is not a file$/],
      [() => symlink(path, path), /^ELOOP: /],
      [() => mkdir(path), /^EINVAL: .* is not a file$/],
      [() => writeFile(path, Buffer.alloc(2 ** 21, '#')), /^EFBIG: .* has more than 1048576 bytes$/],
    ] as const) {
      await make()
      assert.match(await refusal(certs, ['docker.io', 'ghcr.io']), reason)
      await rm(path, { recursive: true })
    }
  })
})
