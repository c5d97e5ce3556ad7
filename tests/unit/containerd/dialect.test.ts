import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { dialectOf, NEWEST, OLDEST, parseVersion } from '../../../lib/containerd/dialect.ts'

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

/** version, whether it needs a host, is 1.x and reads headers as they are, knows referrers, knows dial_timeout */
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

/** version, whether it is 1.x, whether it migrates each file, default of config_path, whether registry.mirrors is read */
const CONFIG: readonly (readonly [string | undefined, boolean, boolean, string, boolean])[] = [
  ['1.7.32', true, false, '', true],
  ['2.0.0', false, false, '', true],
  ['2.1.999', false, false, '', true],
  ['2.2.0', false, false, '/etc/containerd/certs.d:/etc/docker/certs.d', true],
  ['2.3.0', false, true, '/etc/containerd/certs.d:/etc/docker/certs.d', true],
  ['2.4.0', false, true, '/etc/containerd/certs.d:/etc/docker/certs.d', false],
  [undefined, true, false, '', true],
]

describe('dialectOf', () => {
  it('knows how each version reads its own configuration', () => {
    for (const [version, ...expected] of CONFIG) {
      const { is1x, migratesFiles, defaultConfigPath, legacyRegistry } = dialectOf(version)
      assert.deepEqual([is1x, migratesFiles, defaultConfigPath, legacyRegistry], expected, version)
    }
  })

  it('knows what each version understands of hosts.toml, and without a version what all understand', () => {
    for (const [version, ...expected] of HOSTS_TOML) {
      const { needsHost, is1x, referrers, dialTimeout } = dialectOf(version)
      assert.deepEqual([needsHost, is1x, referrers, dialTimeout], expected, version)
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
    assert.deepEqual(dialectOf('99.0.0'), NEWEST)
  })
})
