import assert from 'node:assert/strict'
import { link, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { CONFIG_RULES } from '../../../../lib/containerd/check/config-rules.ts'
import { lookAtProcess } from '../../../../lib/containerd/check/config-view.ts'
import { findingsOf } from '../../../../lib/containerd/rule.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'

const DEFAULT = '/etc/containerd/config.toml'

/** A process with that command line, whose root holds the files. */
async function withProcess(
  commandLine: readonly string[],
  files: readonly string[],
  use: (look: (configFile: string) => Promise<ReturnType<typeof findingsOf>>, root: string) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (proc) => {
    const root = join(proc, '7', 'root')
    await mkdir(root, { recursive: true })
    await writeFile(join(proc, '7', 'cmdline'), commandLine.map((arg) => `${arg}\0`).join(''))
    for (const file of files) {
      await mkdir(dirname(join(root, file)), { recursive: true })
      await writeFile(join(root, file), '')
    }
    const look = async (configFile: string) => {
      const process = await lookAtProcess(7, configFile, proc)
      return findingsOf(CONFIG_RULES, {
        process,
        config: undefined,
        probe: { unreadable: 'off' },
      })
    }
    await use(look, root)
  })
}

for (const [commandLine, used] of [
  [['/usr/bin/containerd'], DEFAULT],
  [['containerd', '-c', '/run/k3s.toml', '-a', '/run/c.sock'], '/run/k3s.toml'],
  [['/opt/bin/containerd', '--root=/r', '--config=/etc/k0s/containerd.toml'], '/etc/k0s/containerd.toml'],
  [['containerd', '-config', '/a.toml', '--log-level', 'debug'], '/a.toml'],
] as const) {
  test(`containerd-config-in-use sees that ${commandLine.join(' ')} was started with another file`, () =>
    withProcess(commandLine, [used, '/other.toml'], async (look, root) => {
      const [found] = await look(join(root, 'other.toml'))
      assert.deepEqual([found?.severity, found?.id], ['error', 'containerd-config-in-use'])
      assert.match(found?.seen ?? '', new RegExp(`\\(process 7\\) was started with ${used},`))
      assert.deepEqual(found?.remedy?.lines, [`SWARMIRROR_CONTAINERD_CONFIG=${used}`])
      assert.equal((await look(join(root, 'missing.toml'))).length, 1)
      // The same file under another name, as in a container that mounts it elsewhere.
      assert.deepEqual(await look(join(root, used)), [])
      await symlink(join(root, used), join(root, 'link.toml'))
      assert.deepEqual(await look(join(root, 'link.toml')), [])
      await link(join(root, used), join(root, 'name.toml'))
      assert.deepEqual(await look(join(root, 'name.toml')), [])
    }))
}

for (const [what, commandLine, files] of [
  ['of another program', ['/usr/bin/nginx', '-c', '/nginx.conf'], ['/nginx.conf']],
  ['of a path that depends on a directory', ['containerd', '-c', 'config.toml'], ['/config.toml']],
  ['of a containerd that runs without a file', ['containerd'], []],
  ['where there is no such process to be seen', [], []],
] as const) {
  test(`containerd-config-in-use says nothing ${what}`, () =>
    withProcess(commandLine, [...files], async (look) => assert.deepEqual(await look('/other.toml'), [])))
}
