import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { CHANGES, dialectOf, NEWEST, OLDEST, parseVersion } from '../../../lib/containerd/dialect.ts'

describe('parseVersion', () => {
  for (const [text, version] of [
    ['v1.7.24', [1, 7, 24]],
    ['1.7.24~ds1', [1, 7, 24]],
    ['2.0.5-k3s1.32', [2, 0, 5]],
    ['v2.2.0-rc.1', [2, 2, 0]],
  ] as const) {
    it(`reads ${text}`, () => {
      const [major, minor, patch] = parseVersion(text) ?? []
      assert.deepEqual([major, minor, patch], version)
    })
  }

  for (const text of ['', 'main', '1.7', 'v1.7.x', '2.1.12345678', 'x1.7.24']) {
    it(`knows no version in ${JSON.stringify(text)}`, () => assert.equal(parseVersion(text), undefined))
  }
})

/** version, whether it needs a host, reads headers as they are, knows referrers, knows dial_timeout */
const HOSTS_TOML: readonly (readonly [string | undefined, boolean, boolean, boolean, boolean])[] = [
  ['v1.6.36', true, true, false, false],
  ['1.7.24~ds1', true, true, false, false],
  ['1.7.31', true, true, false, false],
  ['v1.7.32', false, true, false, false],
  ['2.0.0-rc.1', false, false, false, false],
  ['2.0.6', false, false, false, false],
  ['v2.0.7', false, false, false, true],
  ['v2.1.0', false, false, false, true],
  ['2.1.9+unknown', false, false, false, true],
  ['v2.2.0-k3s1', false, false, true, true],
  ['3.0.0', false, false, true, true],
  ['main', true, true, false, false],
  [undefined, true, true, false, false],
]

describe('dialectOf', () => {
  it('knows what each version understands of hosts.toml, and without a version what all understand', () => {
    for (const [version, ...expected] of HOSTS_TOML) {
      const { needsHost, plainHeaders, referrers, dialTimeout } = dialectOf(version)
      assert.deepEqual([needsHost, plainHeaders, referrers, dialTimeout], expected, version)
    }
  })

  it('splits lists up to 2.0', () => {
    const splits = (text: string) => dialectOf(text).splitsConfigPath
    assert.deepEqual(['1.6.0', '1.7.29', '2.0.9', '2.1.0', '2.2.6', '3.0.0'].map(splits), [
      true,
      true,
      true,
      false,
      false,
      false,
    ])
  })

  it('is the oldest before every change, and the newest after the last one', () => {
    assert.deepEqual(dialectOf('1.6.0'), OLDEST)
    assert.deepEqual(dialectOf('2.4.0'), NEWEST)
  })
})

describe('the table of changes', () => {
  it('is in the order of the versions, so that a later row has the last word', () => {
    const versions = CHANGES.map(({ since: [major, minor, patch] }) => (major * 1_000 + minor) * 1_000 + patch)
    assert.deepEqual(versions, versions.toSorted())
  })

  it('has a change in every row, at its version and not before, and says where it comes from', () => {
    for (const { since, change, source } of CHANGES) {
      const [major, minor, patch] = since
      const earlier =
        patch > 0 ? [major, minor, patch - 1] : minor > 0 ? [major, minor - 1, 999] : [major - 1, 999, 999]
      const [before, after] = [dialectOf(earlier.join('.')), dialectOf(since.join('.'))]
      const keys = Object.keys(change) as (keyof typeof change)[]
      assert.ok(keys.length > 0)
      for (const key of keys) {
        assert.notDeepEqual(before[key], after[key], `${since.join('.')} ${key}`)
        assert.deepEqual(after[key], change[key], `${since.join('.')} ${key}`)
      }
      assert.match(source, /v\d|\d\.\d+\.\d+/)
    }
  })
})
