import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { blockOf, page } from '../../fixtures/readme.ts'
import { readSettings } from '../../fixtures/settings.ts'

const PROGRAM = '/usr/local/bin/swarmirror'
/** The most seconds that a mirror takes to stop, for withdrawing and draining: see lib/mirror/mirror.ts. */
const STOP = 5 + 20

/** The values of a key in the unit file, in their order. */
function values(unit: string, key: string): string[] {
  return [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value]) => value ?? '')
}

/** Expands a setting's value like systemd: `%S` is the directory of the state. */
function variables(lines: readonly string[]): Record<string, string> {
  const expanded = lines.map((line) => line.replace('%S', '/var/lib'))
  return Object.fromEntries(
    expanded.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
}

describe('unit file of the README', () => {
  const unit = blockOf('lib/commands/README.md', 'unit')
  const settings = blockOf('lib/commands/README.md', 'settings file')
  const given = settings.split('\n').filter((line) => /^SWARMIRROR_/.test(line))
  const shown = settings.split('\n').flatMap((line) => (/^#SWARMIRROR_/.test(line) ? [line.slice(1)] : []))
  const fixed = values(unit, 'Environment').flatMap((line) => line.split(' '))

  it('has settings that exist and are right together', () => {
    for (const lines of [given, [...given, ...shown]]) {
      const { BUN_TMPDIR, ...environment } = variables([...fixed, ...lines])
      assert.equal(BUN_TMPDIR, `/var/lib/${values(unit, 'StateDirectory')[0]}`)
      assert.deepEqual(
        Object.keys(environment).filter((name) => !name.startsWith('SWARMIRROR_')),
        [],
      )
      const read = readSettings({ flags: [], environment, readsKey: false })
      assert.equal(read['swarm-key-file'], '/etc/swarmirror/swarm.key')
      assert.equal(read.bootstrap?.length, 3)
      assert.equal(read['data-dir'], `/var/lib/${values(unit, 'StateDirectory')[0]}`)
      assert.deepEqual(values(unit, 'ReadWritePaths'), [read['certs-dir']])
    }
    // A misspelt variable would be ignored.
    const known = new Set(page('lib/settings/README.md').match(/`SWARMIRROR_\w+`/g))
    const { BUN_TMPDIR: _, ...used } = variables([...fixed, ...given, ...shown])
    for (const name of Object.keys(used)) assert.ok(known.has(`\`${name}\``), name)
  })

  it('uses no specifier that systemd knows since 250 only, as the current RHEL 8 and Ubuntu 22.04 have older ones', () => {
    assert.deepEqual(new Set(unit.match(/%[a-zA-Z]/g)), new Set(['%S']))
  })

  it('lets a mirror drain before it is killed', () => {
    assert.ok(Number(values(unit, 'TimeoutStopSec')[0]) > STOP)
    assert.deepEqual(values(unit, 'ExecStart'), [`${PROGRAM} serve`])
    assert.deepEqual(values(unit, 'ExecStartPre'), [`${PROGRAM} hosts`])
  })
})
