import { dirname, join } from 'node:path'
import { HOSTS_FILES, isRefusal } from '../containerd/hosts/files.ts'
import { DEFAULT_NAMESPACE, isWithoutMirror, ownViews, registriesToWrite } from '../containerd/hosts/look.ts'
import { hostsCommand, type MirrorEntry, mirrorEntryFor } from '../containerd/hosts/mirror-entry.ts'
import { applyChanges, type Change, planRemove, planWrite } from '../containerd/hosts/plan.ts'
import { readCommandLine } from '../settings/read.ts'
import { ConfigurationError, type Settings } from '../settings/settings.ts'
import { type Command, programText } from './command.ts'

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
  settings: ['listen', 'certs-dir', 'registries', 'also', 'resolve'],
  async run(context) {
    const { args, environment, print, report } = context
    const { settings, switches } = readCommandLine({ flags: args, environment, opensDoors: false }, SWITCHES)
    const certsDir = settings['certs-dir']
    const registries = settings.registries && [...settings.registries]
    const mirror = switches.remove ? undefined : entryFor(settings)
    const plan = async () => {
      if (mirror === undefined) return await planRemove({ certsDir, registries }, HOSTS_FILES)
      const wanted = await registriesToWrite(settings, HOSTS_FILES)
      for (const registry of wanted.absent)
        print(`${registry}: no directory of its own, so ${DEFAULT_NAMESPACE} counts for it\n`)
      return await planWrite({ certsDir, mirror, registries: wanted.registries }, HOSTS_FILES)
    }
    // Nothing is written yet, so an error of the file system is a problem that a person must solve, like a wrong setting.
    const { changes, refusals } = await plan().catch((error: unknown) => {
      if (!isRefusal(error)) throw error
      throw new ConfigurationError([`${error.message}; nothing was written`])
    })
    // A file that somebody else broke is left alone, and the mirror comes or goes for all other registries.
    const general = join(certsDir, DEFAULT_NAMESPACE)
    const isForAll = settings.also === 'all' || (mirror === undefined && registries === undefined)
    const left = refusals.filter(({ path }) => isForAll && dirname(path) !== general)
    const refused = refusals.filter((refusal) => !left.includes(refusal))
    if (refused.length > 0) {
      throw new ConfigurationError(refused.map(({ path, reason }) => `${path}: ${reason}; nothing was written`))
    }
    for (const { path, reason } of left) report(`${path}: left as it is: ${reason}\n`)
    if (switches['dry-run']) {
      print('this is a dry run, and nothing is written\n')
      for (const change of changes) print(tell(change) + (change.action === 'keep' ? '' : indented(change.after)))
      return
    }
    const failed: string[] = []
    for await (const { change, problem } of applyChanges(changes, HOSTS_FILES)) {
      if (problem === undefined) print(tell(change))
      else failed.push(`${change.path}: ${problem}`)
    }
    if (failed.length > 0) throw new ConfigurationError(failed)
    if (changes.length === 0) print(`${certsDir}: no hosts.toml has an entry that swarmirror wrote\n`)
    if (mirror === undefined || registries !== undefined) return
    const check = { certsDir, mirror, registries, version: undefined, program: programText(context) }
    const without = (await ownViews(check, HOSTS_FILES)).filter(isWithoutMirror).map(({ registry }) => registry)
    if (without.length === 0) return
    const why = `not mirrored, because a directory of its own takes the place of ${DEFAULT_NAMESPACE}`
    for (const registry of without) print(`${registry}: ${why}\n`)
    print(`to mirror them, too: ${hostsCommand({ also: without }, check)}\n`)
  },
}

/** The mirror's entry in hosts.toml files. */
function entryFor(settings: Settings): MirrorEntry {
  if (settings.listen.port === 0) {
    throw new ConfigurationError(['--listen: expected the port on which the mirror listens, not 0, which means any'])
  }
  return mirrorEntryFor(settings.listen, settings.resolve)
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

/** The text that a file would have, for a person. */
function indented(text = ''): string {
  return text.replace(/^(?=.)/gm, '    ')
}
