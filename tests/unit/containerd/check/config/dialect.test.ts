import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { dialectOf, parseVersion } from '../../../../../lib/containerd/check/config/dialect.ts'

describe('parseVersion', () => {
  for (const [text, version] of [
    ['v1.7.24', [1, 7, 24]],
    ['1.7.24~ds1', [1, 7, 24]],
    ['2.0.5-k3s1.32', [2, 0, 5]],
    ['v2.2.0-rc.1', [2, 2, 0]],
  ] as const) {
    it(`reads ${text}`, () => {
      const { major, minor, patch } = parseVersion(text) ?? {}
      assert.deepEqual([major, minor, patch], version)
    })
  }

  for (const text of ['', 'main', '1.7', 'v1.7.x', '2.1.12345678', 'x1.7.24']) {
    it(`knows no version in ${JSON.stringify(text)}`, () => assert.equal(parseVersion(text), undefined))
  }
})

describe('dialectOf', () => {
  it('splits lists up to 2.0', () => {
    const splits = (text: string) => dialectOf(parseVersion(text) ?? assert.fail(text)).splitsConfigPath
    assert.deepEqual(['1.6.0', '1.7.29', '2.0.9', '2.1.0', '2.2.6', '3.0.0'].map(splits), [
      true,
      true,
      true,
      false,
      false,
      false,
    ])
  })

  it('knows the newest version of a file that each reads', () => {
    const newest = (text: string) => dialectOf(parseVersion(text) ?? assert.fail(text)).newestConfig
    assert.deepEqual(['1.6.0', '1.7.29', '2.0.0', '2.2.0', '2.3.0', '3.0.0'].map(newest), [2, 2, 3, 3, 4, 4])
  })
})
