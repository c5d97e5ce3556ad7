import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { readmeBlock } from '../fixtures/readme.ts'

/** Highest exposure that systemd may see in the unit, from 0 to 10: it calls below 5 "OK", a unit without any of it has 9.6. */
const MOST_EXPOSED = 4

test("systemd: the README's unit file is one that systemd takes, and confined", async () => {
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-unit-'))
  try {
    const program = join(dir, 'swarmirror')
    await copyFile('/bin/true', program)
    const unit = join(dir, 'swarmirror.service')
    await writeFile(unit, readmeBlock('unit').replaceAll('/usr/local/bin/swarmirror', program))
    const analyze = (...args: string[]) => promisify(execFile)('systemd-analyze', [...args, unit])
    const { stdout, stderr } = await analyze('verify', '--man=no', '--recursive-errors=no')
    assert.equal(stdout + stderr, '')
    const exposed = (await analyze('security', '--offline=yes', '--no-pager')).stdout
    const level = /Overall exposure level for swarmirror.service: ([\d.]+)/.exec(exposed)?.[1]
    assert.ok(Number(level) < MOST_EXPOSED, exposed)
    await writeFile(unit, readmeBlock('unit').replace('[Service]\n', '[Service]\nProtectSytem=strict\n'))
    const wrong = await analyze('verify', '--man=no').catch((error: { stderr: string }) => error)
    assert.match(wrong.stderr, /ProtectSytem/, 'a misspelt key must be seen')
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
