import assert from 'node:assert/strict'
import { test } from 'node:test'
import { programText } from '../../../lib/commands/command.ts'

for (const [title, self, environment, text] of [
  ['a script of npm', ['/n/node', '/w/main.ts'], { npm_lifecycle_event: 'bun' }, 'npm run bun --'],
  ['npx', ['/n/node', '/c/_npx/1/node_modules/.bin/swarmirror'], { npm_lifecycle_event: 'npx' }, 'npx swarmirror'],
  ['another script of npm', ['/n/node', '/w/main.ts'], { npm_lifecycle_event: 'test' }, '/n/node /w/main.ts'],
  ['a runtime', ['/n/deno', 'run', '--allow-all', '/w/main.ts'], {}, '/n/deno run --allow-all /w/main.ts'],
  ['an executable', ['/usr/local/bin/swarmirror'], {}, '/usr/local/bin/swarmirror'],
  ['a path with a space', ['/my programs/swarmirror'], {}, "'/my programs/swarmirror'"],
] as const) {
  test(`programText starts this program again as it was started by ${title}`, () => {
    assert.equal(programText({ self: [self[0], ...self.slice(1)], environment }), text)
  })
}
