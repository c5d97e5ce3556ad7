import { dirname, join } from 'node:path'
import { dialectOf } from '../containerd/dialect.ts'
import { applyChanges, HostsWriteError } from '../containerd/hosts/apply.ts'
import { HOSTS_FILES, isRefusal } from '../containerd/hosts/files.ts'
import { DEFAULT_NAMESPACE, isWithoutMirror, ownViews, registriesToWrite } from '../containerd/hosts/look.ts'
import { hostsCommand, mirrorEntryFor } from '../containerd/hosts/mirror-entry.ts'
import { type Change, type HostsTarget, type Plan, planRemove, planWrite } from '../containerd/hosts/plan.ts'
import { type Look, type Paint, paintFor } from '../observe/paint.ts'
import { readCommandLine } from '../settings/read.ts'
import { ConfigurationError, type Settings } from '../settings/settings.ts'
import { type Command, programText } from './command.ts'

/** Milliseconds to wait for containerd's version. Without it, one optional line is left out. */
const VERSION_TIMEOUT = 2_000

const SWITCHES = {
  remove: 'take out what swarmirror wrote, and restore what was there before',
  'dry-run': 'show what would change, and write nothing',
}

/** Makes containerd ask the mirror first, or no longer. */
export const hosts: Command = {
  name: 'hosts',
  summary: "write containerd's hosts.toml files, so that it asks the mirror first, or take that out again",
  example: '--registries docker.io,ghcr.io --dry-run',
  switches: SWITCHES,
  settings: ['listen', 'containerd-socket', 'containerd-namespace', 'certs-dir', 'registries', 'also', 'resolve'],
  async run(context) {
    const { args, environment, print, report, stop, terminal } = context
    const { settings, switches } = readCommandLine({ flags: args, environment, opensDoors: false }, SWITCHES)
    const certsDir = settings['certs-dir']
    const registries = settings.registries && [...settings.registries]
    const entry = switches.remove ? undefined : await entryFor(settings, stop, report)
    const { changes, refusals } = await refusedAsProblem(async () => {
      if (entry === undefined) return await planRemove({ certsDir, registries }, HOSTS_FILES)
      const wanted = await registriesToWrite(settings, HOSTS_FILES)
      for (const registry of wanted.absent)
        print(`${registry}: no directory of its own, so ${DEFAULT_NAMESPACE} counts for it\n`)
      return await planWrite({ ...entry, registries: wanted.registries }, HOSTS_FILES)
    })
    // A file that somebody else broke is left alone, and the mirror works for all other registries.
    const general = join(certsDir, DEFAULT_NAMESPACE)
    const left = refusals.filter(({ path }) => settings.also === 'all' && dirname(path) !== general)
    const refused = refusals.filter((refusal) => !left.includes(refusal))
    if (refused.length > 0) {
      throw new ConfigurationError(refused.map(({ path, reason }) => `${path}: ${reason}; nothing was written`))
    }
    for (const { path, reason } of left) report(`${path}: left as it is: ${reason}\n`)
    if (switches['dry-run']) {
      const paint = paintFor(terminal.output, environment)
      print(changes.map(({ path, before, after }) => difference(path, before, after, paint)).join(''))
      if (changes.every(({ action }) => action === 'keep')) print('nothing would change\n')
      return
    }
    try {
      await applyChanges(certsDir, changes, HOSTS_FILES)
    } catch (error) {
      if (error instanceof HostsWriteError) {
        for (const change of error.done) print(tell(change))
        for (const { path } of error.untouched) print(`${path}: not touched\n`)
      }
      throw error
    }
    for (const change of changes) print(tell(change))
    if (changes.length === 0) print(`${certsDir}: no hosts.toml has an entry that swarmirror wrote\n`)
    if (entry === undefined || registries !== undefined) return
    const check = { ...entry, registries, socket: settings['containerd-socket'], program: programText(context) }
    const without = (await ownViews(check, HOSTS_FILES)).filter(isWithoutMirror).map(({ registry }) => registry)
    if (without.length === 0) return
    const why = `not mirrored, because a directory of its own takes the place of ${DEFAULT_NAMESPACE}`
    for (const registry of without) print(`${registry}: ${why}\n`)
    print(`to mirror them, too: ${hostsCommand({ also: without }, check)}\n`)
  },
}

/** The directory of hosts.toml files, and the mirror's entry in them. */
async function entryFor(
  settings: Settings,
  stop: AbortSignal,
  report: (text: string) => void,
): Promise<Omit<HostsTarget, 'registries'>> {
  if (settings.listen.port === 0) {
    throw new ConfigurationError(['--listen: expected the port on which the mirror listens, not 0, which means any'])
  }
  const version = await versionOf(settings, stop, report)
  const mirror = mirrorEntryFor(settings.listen, settings.resolve, version)
  if (mirror.url.includes('[') && dialectOf(version).plainHeaders) {
    const expected =
      'expected an address such as 127.0.0.1:5000: only containerd 2.x reads an IPv6 address in hosts.toml'
    throw new ConfigurationError([`--listen: ${expected}, and ${version ?? 'an unknown version'} runs here`])
  }
  return { certsDir: settings['certs-dir'], mirror, version }
}

/** containerd's version, if it answers. An init container has no socket. */
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

/**
 * Turns an error of the file system before anything is written into a problem that a person must solve, like a wrong setting.
 */
async function refusedAsProblem(plan: () => Promise<Plan>): Promise<Plan> {
  try {
    return await plan()
  } catch (error) {
    if (!isRefusal(error)) throw error
    throw new ConfigurationError([`${error.message}; nothing was written`])
  }
}

const TOLD: Readonly<Record<Change['action'], string>> = {
  create: 'created',
  update: 'the mirror comes first now, and the rest is as it was',
  keep: 'nothing to change: the mirror is first',
  'take-out': 'the mirror is taken out, and the rest is as it was',
  delete: 'deleted, since swarmirror had created it',
}

/** The change of a file, and notes for a person, one line each. */
function tell({ path, action, notes }: Change): string {
  return [`${path}: ${TOLD[action]}`, ...notes.map((note) => `  ${note}`)].map((line) => `${line}\n`).join('')
}

/** Lines of context before and after a change. */
const CONTEXT = 3

/** The looks of a difference's lines, by their first character. */
const LOOKS: Readonly<Record<string, Look>> = { '-': 'red', '+': 'green' }

/** The difference between two texts of a file for a person, like `diff -u`, but in one stretch. */
function difference(path: string, before: string | undefined, after: string | undefined, paint: Paint): string {
  if (before === after) return ''
  const [old, fresh] = [linesOf(before), linesOf(after)]
  const shared = Math.min(old.length, fresh.length)
  let head = 0
  while (head < shared && old[head] === fresh[head]) head++
  let tail = 0
  while (tail < shared - head && old[old.length - 1 - tail] === fresh[fresh.length - 1 - tail]) tail++
  const start = Math.max(0, head - CONTEXT)
  const kept = Math.min(tail, CONTEXT)
  const lines = [
    `--- ${before === undefined ? '/dev/null' : path}`,
    `+++ ${after === undefined ? '/dev/null' : path}`,
    `@@ from line ${start + 1} @@`,
    ...old.slice(start, head).map((line) => ` ${line}`),
    ...old.slice(head, old.length - tail).map((line) => `-${line}`),
    ...fresh.slice(head, fresh.length - tail).map((line) => `+${line}`),
    ...old.slice(old.length - tail, old.length - tail + kept).map((line) => ` ${line}`),
  ]
  return lines.map((line) => `${painted(line, paint)}\n`).join('')
}

function painted(line: string, paint: Paint): string {
  const look = LOOKS[line.charAt(0)]
  return look === undefined ? line : paint(look, line)
}

function linesOf(text: string | undefined): string[] {
  if (text === undefined || text === '') return []
  const lines = text.split(/\r?\n/)
  return text.endsWith('\n') ? lines.slice(0, -1) : lines
}
