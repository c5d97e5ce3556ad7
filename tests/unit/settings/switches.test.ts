import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readCommandLine } from '../../../lib/settings/read.ts'
import { ConfigurationError } from '../../../lib/settings/settings.ts'

const SWITCHES = { remove: 'removes', 'dry-run': 'shows' } as const

function read(flags: readonly string[]) {
  return readCommandLine({ flags, environment: {}, opensDoors: false }, SWITCHES)
}

function problemsOf(flags: readonly string[]): readonly string[] {
  try {
    read(flags)
  } catch (error) {
    assert.ok(error instanceof ConfigurationError, `${error}`)
    return error.problems
  }
  return assert.fail(`accepted: ${flags.join(' ')}`)
}

test('readCommandLine finds switches anywhere among the settings, which do not see them', () => {
  const settings = [['--resolve', 'upstream'], ['--certs-dir=/c'], ['--listen', '127.0.0.1:1']]
  fc.assert(
    fc.property(
      fc.subarray(Object.keys(SWITCHES)),
      fc.array(fc.nat(), { minLength: 2, maxLength: 2 }),
      (given, places) => {
        const parts = [...settings]
        for (const [index, name] of given.entries())
          parts.splice((places[index] ?? 0) % (parts.length + 1), 0, [`--${name}`])
        const line = read(parts.flat())
        assert.deepEqual(line.switches, { remove: given.includes('remove'), 'dry-run': given.includes('dry-run') })
        assert.deepEqual(
          [line.settings.resolve, line.settings['certs-dir'], line.settings.listen.port],
          ['upstream', '/c', 1],
        )
      },
    ),
  )
})

test('readCommandLine takes the same switch twice as once', () => {
  assert.equal(read(['--remove', '--remove']).switches.remove, true)
})

test('readCommandLine refuses a value for a switch, together with all other problems', () => {
  assert.deepEqual(problemsOf(['--remove=yes', '--resolve', 'sometimes', '--rmove']), [
    '--remove: takes no value',
    'unknown flag --rmove; see --help',
    '--resolve "sometimes": expected `fallback`, `upstream` or `swarm`',
  ])
  assert.deepEqual(problemsOf(['--remove', 'docker.io']), ['unexpected argument "docker.io"'])
})

test('readCommandLine does not give a flag the value behind a switch', () => {
  assert.deepEqual(problemsOf(['--certs-dir', '--remove', '/somewhere']), [
    '--certs-dir: expected a value',
    'unexpected argument "/somewhere"',
  ])
})

test('readCommandLine needs no swarm key where no door is opened, and reads its file only where that is wanted', () => {
  const flags = ['--swarm-key-file', '/none', '--peer-listen', '0.0.0.0:5000']
  const sources = { flags, environment: {}, opensDoors: false }
  assert.equal(readCommandLine(sources, {}).settings.resolve, 'fallback')
  assert.throws(
    () => readCommandLine({ ...sources, readsKey: true }, {}),
    /^ConfigurationError: --swarm-key-file "\/none"/,
  )
})
