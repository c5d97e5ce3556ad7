import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { dialectOf } from '../containerd/dialect.ts'
import { applyChanges, HostsWriteError } from '../containerd/hosts/apply.ts'
import { registriesWithoutMirror } from '../containerd/hosts/check.ts'
import { HOSTS_FILES, isRefusal } from '../containerd/hosts/files.ts'
import { DEFAULT_NAMESPACE } from '../containerd/hosts/look.ts'
import { hostsCommand, mirrorEntryFor } from '../containerd/hosts/mirror-entry.ts'
import { backupOf, type Change, type HostsTarget, type Plan, planWrite } from '../containerd/hosts/plan.ts'
import { preview } from '../containerd/hosts/preview.ts'
import { planRemove } from '../containerd/hosts/removal.ts'
import { ConfigurationError, type Settings } from '../settings/settings.ts'
import type { Command } from './command.ts'
import { programText } from './program.ts'
import { readCommandLine } from './switches.ts'

/** Longest wait in milliseconds for containerd's version: without it, one optional line is left out. */
const VERSION_TIMEOUT = 2_000

/** Tells containerd to ask the mirror first, or no longer. */
export const hosts: Command = {
  name: 'hosts',
  summary: 'write hosts.toml, so that containerd asks the mirror first; --remove undoes it, --dry-run shows it',
  async run(context) {
    const { args, environment, print, report, stop } = context
    const sources = {
      flags: args,
      environment,
      readFile: (path: string) => readFileSync(path, 'utf8'),
      opensDoors: false,
    }
    const { settings, switches } = readCommandLine(sources, ['remove', 'dry-run'])
    const certsDir = settings['certs-dir']
    const registries = settings.registries && [...settings.registries]
    const target = switches.remove ? undefined : await targetOf(settings, stop, report)
    const plan = await refusedAsProblem(
      target === undefined ? planRemove({ certsDir, registries }, HOSTS_FILES) : planWrite(target, HOSTS_FILES),
    )
    if (plan.refusals.length > 0) {
      throw new ConfigurationError(plan.refusals.map(({ path, reason }) => `${path}: ${reason}; nothing was written`))
    }
    if (switches['dry-run']) {
      print(plan.changes.map(({ path, before, after }) => preview(path, before, after)).join(''))
      if (plan.changes.every(({ action }) => action === 'keep')) print('nothing would change\n')
      return
    }
    try {
      await applyChanges(certsDir, plan.changes, HOSTS_FILES)
    } catch (error) {
      if (error instanceof HostsWriteError) {
        for (const change of error.done) print(tell(change))
        for (const { path } of error.untouched) print(`${path}: not touched\n`)
      }
      throw error
    }
    for (const change of plan.changes) print(tell(change))
    if (plan.changes.length === 0) print(`${certsDir}: no hosts.toml has an entry that swarmirror wrote\n`)
    if (target === undefined || registries !== undefined) return
    const shown = { ...target, socket: settings['containerd-socket'], program: programText(context) }
    const without = await registriesWithoutMirror({ ...shown, registries }, HOSTS_FILES)
    if (without.length === 0) return
    print(
      `${without.join(', ')}: not mirrored, because containerd uses their own directories in place of ${DEFAULT_NAMESPACE}; to mirror them, too: ${hostsCommand({ registries: without }, shown)}\n`,
    )
  },
}

async function targetOf(settings: Settings, stop: AbortSignal, report: (text: string) => void): Promise<HostsTarget> {
  if (settings.listen.port === 0) {
    throw new ConfigurationError(['--listen: expected the port on which the mirror listens, not 0, which means any'])
  }
  const version = await versionOf(settings, stop, report)
  const mirror = mirrorEntryFor(settings.listen, settings.tags, version)
  if (mirror.url.includes('[') && dialectOf(version).plainHeaders) {
    const expected =
      'expected an address such as 127.0.0.1:5000: only containerd 2.x reads an IPv6 address in hosts.toml'
    throw new ConfigurationError([`--listen: ${expected}, and ${version ?? 'an unknown version'} runs here`])
  }
  const registries = settings.registries === undefined ? [DEFAULT_NAMESPACE] : [...settings.registries]
  return { certsDir: settings['certs-dir'], registries, mirror, version }
}

/** containerd's version, if it answers. It need not: an init container has no socket. */
async function versionOf(
  settings: Settings,
  stop: AbortSignal,
  report: (text: string) => void,
): Promise<string | undefined> {
  // Loaded here, since the other commands do without gRPC.
  const { connectContainerd } = await import('../containerd/client/client.ts')
  const containerd = connectContainerd(settings['containerd-socket'], { callTimeout: VERSION_TIMEOUT })
  try {
    return (await containerd.in(settings['containerd-namespace']).version(stop)).version
  } catch (error) {
    stop.throwIfAborted()
    report(
      `containerd's version is not known, so only what every version understands is written: ${(error as Error).message}\n`,
    )
    return undefined
  } finally {
    containerd.close()
  }
}

/** What the file system refuses before anything is written is a problem for a person to solve, as a wrong setting is. */
async function refusedAsProblem(planning: Promise<Plan>): Promise<Plan> {
  try {
    return await planning
  } catch (error) {
    if (!isRefusal(error)) throw error
    throw new ConfigurationError([`${error.message}; nothing was written`])
  }
}

const TOLD: Readonly<Record<Change['action'], string>> = {
  create: 'created',
  update: 'updated',
  keep: 'nothing to change: the mirror is first',
  restore: 'restored to what it was before swarmirror',
  'take-out': 'the mirror is taken out, and the rest left as it is',
  delete: 'deleted, since swarmirror had created it',
}

/** What was done with a file, and what else a person should know, a line each. */
function tell({ path, target, action, original, notes }: Change): string {
  const kept = original ? [`the original is kept beside it as ${basename(backupOf(target))}`] : []
  const told = original ? 'the mirror comes first now, and the rest is as it was' : TOLD[action]
  return [`${path}: ${told}`, ...[...kept, ...notes].map((note) => `  ${note}`)].map((line) => `${line}\n`).join('')
}
