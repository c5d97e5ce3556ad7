import assert from 'node:assert/strict'
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { programText } from '../../../lib/commands/command.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'

for (const [title, self, environment, text] of [
  ['a script of npm', ['/n/node', '/w/main.ts'], { npm_lifecycle_event: 'bun' }, 'npm run bun --'],
  ['npx', ['/n/node', '/c/_npx/1/node_modules/.bin/swarmirror'], { npm_lifecycle_event: 'npx' }, 'npx swarmirror'],
  ['another script of npm', ['/n/node', '/w/main.ts'], { npm_lifecycle_event: 'test' }, '/n/node main.ts'],
  ['a runtime', ['/n/deno', 'run', '--allow-all', '/w/main.ts'], {}, '/n/deno run --allow-all main.ts'],
  ['a file elsewhere', ['/n/node', '/x/main.ts'], {}, '/n/node /x/main.ts'],
  ['an executable that no shell finds', ['/usr/nowhere/swarmirror'], {}, '/usr/nowhere/swarmirror'],
  ['a path with a space', ['/my programs/swarmirror'], {}, "'/my programs/swarmirror'"],
] as const) {
  test(`programText starts this program again as it was started by ${title}`, () => {
    assert.equal(programText({ self: [self[0], ...self.slice(1)], environment, cwd: '/w' }), text)
  })
}

test('programText is the name alone where a shell finds the same file by it', async () => {
  await withTemporaryDirectory(async (dir) => {
    const [bin, other, linked] = ['bin', 'other', 'linked'].map((name) => join(dir, name)) as [string, string, string]
    for (const folder of [bin, other, linked]) await mkdir(folder)
    for (const folder of [bin, other]) {
      await writeFile(join(folder, 'swarmirror'), '')
      await chmod(join(folder, 'swarmirror'), 0o755)
    }
    await symlink(join(bin, 'swarmirror'), join(linked, 'swarmirror'))
    const text = (PATH: string) => programText({ self: [join(bin, 'swarmirror')], environment: { PATH }, cwd: '/' })
    assert.equal(text(`${dir}:${bin}:${other}`), 'swarmirror')
    assert.equal(text(linked), 'swarmirror')
    assert.equal(text(`${other}:${bin}`), join(bin, 'swarmirror'))
  })
})
