import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { blockOf } from '../fixtures/readme.ts'

const ROOT = join(import.meta.dirname, '..', '..')

/** The highest exposure that systemd may see in the unit, from 0 to 10. It calls below 5 "OK"; an unconfined unit has 9.6. */
const MOST_EXPOSED = 4

test("systemd: accepts the README's unit file, and finds it confined", async () => {
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-unit-'))
  try {
    const program = join(dir, 'swarmirror')
    await copyFile('/bin/true', program)
    const unit = join(dir, 'swarmirror.service')
    await writeFile(unit, blockOf('lib/commands/README.md', 'unit').replaceAll('/usr/local/bin/swarmirror', program))
    const analyze = (...args: string[]) => promisify(execFile)('systemd-analyze', [...args, unit])
    const { stdout, stderr } = await analyze('verify', '--man=no', '--recursive-errors=no')
    assert.equal(stdout + stderr, '')
    const exposed = (await analyze('security', '--offline=yes', '--no-pager')).stdout
    const level = /Overall exposure level for swarmirror.service: ([\d.]+)/.exec(exposed)?.[1]
    assert.ok(Number(level) < MOST_EXPOSED, exposed)
    await writeFile(
      unit,
      blockOf('lib/commands/README.md', 'unit').replace('[Service]\n', '[Service]\nProtectSytem=strict\n'),
    )
    const wrong = await analyze('verify', '--man=no').catch((error: { stderr: string }) => error)
    assert.match(wrong.stderr, /ProtectSytem/, 'a misspelt key must be found')
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

test("systemd: with the unit's environment the executable runs on a host with a noexec /tmp", async () => {
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-noexec-'))
  try {
    await promisify(execFile)(join(ROOT, 'node_modules', '.bin', 'bun'), [join(ROOT, '.ci', 'build.ts'), dir])
    const [state, temporary] = [join(dir, 'state'), join(dir, 'tmp')]
    await mkdir(state)
    await mkdir(temporary)
    /** Runs `swarmirror key` in a mount namespace of its own, where `temporary` is mounted noexec. */
    const run = (environment: Record<string, string>) => {
      const script = 'mount -t tmpfs -o noexec tmpfs "$1" && exec "$0" key'
      const args = ['--mount', 'sh', '-c', script, join(dir, 'swarmirror'), temporary]
      const env = { PATH: process.env.PATH, TMPDIR: temporary, ...environment }
      return promisify(execFile)('unshare', args, { env }).catch((error: { code: number; stderr: string }) => error)
    }
    const [, variable = ''] =
      /^Environment=BUN_TMPDIR=(%S\/swarmirror)$/m.exec(blockOf('lib/commands/README.md', 'unit')) ?? []
    const right = await run({ BUN_TMPDIR: variable.replace('%S/swarmirror', state) })
    assert.ok('stdout' in right && /^\S{43}\n$/.test(right.stdout), right.stderr)
    const wrong = await run({})
    assert.ok('code' in wrong)
    assert.deepEqual([wrong.code, wrong.stderr.split('\n').length], [78, 2], 'one line')
    assert.match(wrong.stderr, /failed to map segment.*BUN_TMPDIR/)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
