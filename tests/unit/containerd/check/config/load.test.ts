import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { glob } from '../../../../../lib/containerd/check/config/load.ts'
import { memoryFiles } from '../memory-files.ts'

const FILES = memoryFiles({
  '/etc/c/b.toml': '',
  '/etc/c/a.toml': '',
  '/etc/c/.hidden.toml': '',
  '/etc/c/z.conf': '',
  '/etc/d/a.toml': '',
  '/etc/[x]/a.toml': '',
  '/top.toml': '',
})

describe('glob', () => {
  for (const [pattern, matches] of [
    ['/etc/c/*.toml', ['/etc/c/.hidden.toml', '/etc/c/a.toml', '/etc/c/b.toml']],
    ['/etc/?/a.toml', ['/etc/c/a.toml', '/etc/d/a.toml']],
    ['/etc/[x]/*', ['/etc/[x]/a.toml']],
    ['/*.toml', ['/top.toml']],
    ['/none/*', []],
    ['/top.toml', ['/top.toml']],
    ['/none.toml', []],
  ] as const) {
    it(`finds the matches of ${pattern}, in order`, async () => {
      assert.deepEqual(await glob(pattern, FILES), matches)
    })
  }

  it('accepts any pattern', async () => {
    const piece = fc.constantFrom(
      '*',
      '?',
      '[',
      ']',
      '-',
      '^',
      '\\',
      '/',
      'a',
      'etc',
      '.toml',
      '\u{1f600}',
      '\n',
      '(',
      '$',
    )
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 10 }), async (pieces) => {
        assert.ok(Array.isArray(await glob(`/${pieces.join('')}`, FILES)))
      }),
    )
  })
})
