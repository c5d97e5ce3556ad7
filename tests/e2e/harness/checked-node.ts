import assert from 'node:assert/strict'
import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Report } from '../../../lib/containerd/check/report.ts'
import type { Severity } from '../../../lib/containerd/rule.ts'
import { type PrintedRemedy, readPrintedRemedies } from '../../fixtures/printed-remedies.ts'
import { followIn } from '../../fixtures/toml-edits.ts'
import type { Cluster } from './cluster.ts'
import type { CommandResult } from './command.ts'
import { defaultContainerdConfig } from './containerd.ts'
import { metricsOf } from './metrics.ts'
import { createMirror, defaultFlags, defaultRuntime, logLines, type MirrorFlags } from './mirror.ts'
import { until } from './wait.ts'

const MAIN = join(import.meta.dirname, '..', '..', '..', 'main.ts')
const NODE = join(import.meta.dirname, '..', '..', '..', 'node_modules', '.bin', 'node')

/** The exit code of a mirror whose node is not configured for it. */
export const EX_CONFIG = 78

/** Runs a command of the mirror as another user, or below another command. */
export interface RunOptions {
  readonly uid?: number
  readonly below?: readonly [command: string, ...args: string[]]
}

/**
 * A node on which somebody sets the mirror up: its containerd gets one configuration after the other, the mirror starts there,
 * and the node follows what it prints. It does what a person at a terminal would do, and knows no more.
 */
export async function createCheckedNode(cluster: Cluster, name: string) {
  const node = cluster.node(name)
  const { paths, containerd } = node
  const imported = join(dirname(paths.config), 'imported.toml')
  const right = defaultContainerdConfig(paths, 'native')
  const usual: MirrorFlags = {
    ...defaultFlags(node.network, cluster.swarmKey),
    store: 'containerd',
    'containerd-socket': paths.socket,
    'containerd-config': paths.config,
    'certs-dir': paths.certs,
  }
  let flags = usual
  const mirror = createMirror(node.network, {
    node: node.name,
    logDirectory: await node.makeDirectory('logs'),
    runtime: defaultRuntime(),
    flags: () => flags,
  })
  // This node has no systemd: the test restarts containerd when the output asks for it.
  const bin = await node.makeDirectory('bin')
  const asked = join(bin, 'asked')
  await writeFile(join(bin, 'systemctl'), `#!/bin/sh\necho "$*" > ${asked}\n`)
  await chmod(join(bin, 'systemctl'), 0o755)

  async function restart(): Promise<void> {
    if (containerd.running) await containerd.stop()
    await containerd.start()
  }

  /** Runs a command of the mirror with flags, on the node. */
  async function main(
    command: string,
    given: MirrorFlags,
    more: readonly string[] = [],
    { uid, below }: RunOptions = {},
  ) {
    const drop = uid === undefined ? [] : ['setpriv', '--reuid', `${uid}`, '--regid', `${uid}`, '--clear-groups']
    const args = Object.entries(given).flatMap(([flag, value]) => (value === undefined ? [] : [`--${flag}`, value]))
    const [program = '', ...rest] = [...(below ?? []), ...drop, NODE, MAIN, command, ...args, ...more]
    return await node.tryExec(program, rest)
  }

  /** Does what was printed: first changes all files as they are then, and then runs the commands in order. */
  async function follow(remedies: readonly PrintedRemedy[]): Promise<void> {
    for (const remedy of remedies) {
      // What is to be deleted is named with its place.
      const [, place] = /\((\/\S+) line \d+\)/.exec(remedy.text) ?? []
      if (remedy.lines[0]?.startsWith('SWARMIRROR_')) for (const line of remedy.lines) set(line)
      else {
        const file = remedy.file ?? place ?? paths.config
        await writeFile(file, followIn(await readFile(file, 'utf8').catch(() => ''), remedy))
      }
    }
    for (const command of distinct(remedies.flatMap(({ command }) => command ?? []))) await type(command)
  }

  /** A setting of the mirror as an environment variable. */
  function set(line: string): void {
    const [, variable, value] = /^SWARMIRROR_([A-Z_]+)=(.*)$/.exec(line) ?? []
    assert.ok(variable !== undefined, `an unexpected line: ${line}`)
    flags = { ...flags, [variable.toLowerCase().replaceAll('_', '-')]: value }
  }

  async function type(command: string): Promise<void> {
    const { code, stderr } = await node.tryExec('sh', ['-c', `PATH=${bin}:$PATH; ${command}`])
    assert.equal(code, 0, `${command}: ${stderr}`)
    const request = await readFile(asked, 'utf8').catch(() => undefined)
    if (request === undefined) return
    await rm(asked)
    assert.equal(request, 'restart containerd\n')
    await restart()
  }

  return {
    node,
    mirror,
    paths,
    right,
    /** A file that a configuration may import. */
    imported,
    restart,
    follow,
    set,
    get flags() {
      return flags
    },

    /** Starts containerd with these files; without CRI it only has to answer. Resets the mirror's flags to the usual ones. */
    async configure(text: string, options: { readonly imported?: string; readonly cri?: boolean } = {}): Promise<void> {
      // A failed test may leave a running mirror.
      if (mirror.running) await mirror.kill()
      if (containerd.running) await containerd.stop()
      await writeFile(paths.config, text)
      await writeFile(imported, options.imported ?? '')
      flags = usual
      await node.writeHosts('_default', { hosts: [{ url: 'http://127.0.0.1:5000' }] })
      if (options.cri ?? true) return await containerd.start()
      containerd.spawn()
      await until('containerd to answer', () => node.ctr('version').then(() => true))
    },

    /** Runs a command of the mirror with its flags. */
    run: (command: string, options?: RunOptions) => main(command, flags, [], options),

    /** The report of `check` in JSON. */
    async check(
      given: MirrorFlags = flags,
      options?: RunOptions,
    ): Promise<{ code: CommandResult['code']; report: Report }> {
      const { code, stdout, stderr } = await main('check', { ...given, 'log-level': 'warn' }, ['--json'], options)
      assert.equal(stderr, '')
      return { code, report: JSON.parse(stdout) }
    },

    /** What `check` on a terminal tells a person to do, for findings of one severity. */
    async printed(severity: Severity, given: MirrorFlags = flags, options?: RunOptions): Promise<PrintedRemedy[]> {
      const { stdout } = await main('check', { ...given, 'log-level': 'warn' }, [], options)
      return readPrintedRemedies(stdout).filter((remedy) => remedy.severity === severity)
    },

    /** Everything that a probe could leave. */
    async traces() {
      return {
        images: await node.ctr('images', 'ls', '--quiet'),
        content: await node.ctr('content', 'ls', '--quiet'),
        leases: await node.ctr('leases', 'ls', '--quiet'),
        snapshots: await node.ctr('snapshots', '--snapshotter', 'native', 'ls'),
        certs: (await readdir(paths.certs)).sort(),
      }
    },

    /** Starts the mirror, which must end by itself. Returns its exit code, the errors that it logged, and what it says to do. */
    async refused() {
      mirror.spawn()
      await until('the mirror to end', () => !mirror.running)
      const lines = logLines(mirror)
      assert.ok(!lines.some(({ event }) => event === 'ready'), 'it must never be ready')
      const errors = lines.filter(({ event, severity }) => event === 'finding' && severity === 'error')
      const remedies = readPrintedRemedies(mirror.output('stderr'))
      return { code: await mirror.exited, told: errors.map(({ id }) => String(id)), remedies }
    },

    /** Starts the mirror, which must become ready and find no error, and stops it. */
    async startsReady(): Promise<void> {
      await mirror.start()
      assert.match(await metricsOf(node), /swarmirror_check_findings\{severity="error"\} 0/)
      assert.equal(await mirror.stop(), 0)
    },

    /** Follows what `check` prints until it prints nothing more: one remedy may uncover another. */
    async followAll(severity: Severity = 'error'): Promise<void> {
      for (let round = 1; round <= 3; round++) {
        const remedies = await this.printed(severity)
        if (remedies.length === 0) return
        await follow(remedies)
      }
      assert.deepEqual(await this.printed(severity), [])
    },
  }
}

/**
 * The findings other than `ok`, as `severity id`, without those that do not matter here: a lone node has nobody to compare its clock
 * and swarm key with, a containerd that never pulled has no content to look into, and a registry may be out of reach.
 */
export function wrong({ findings }: Report): string[] {
  return findings
    .map(({ severity, id }) => `${severity} ${id}`)
    .filter((found) => !/^ok |^unknown (clock|bootstrap|swarm-key|containerd-content)$|^\w+ upstream$/.test(found))
}

function distinct<T>(values: readonly T[]): T[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()]
}
