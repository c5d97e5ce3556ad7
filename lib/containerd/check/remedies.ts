import { variableOf } from '../../settings/settings.ts'
import { planSetting } from '../../toml/patch.ts'
import type { Remedy } from '../finding.ts'
import { BOLT_PLUGIN } from './config/effective.ts'
import type { ConfigProblem } from './config/load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN } from './config/merge.ts'
import { planChange } from './config/reading.ts'
import type { ConfigCheck } from './config-check.ts'
import type { Situation } from './distribution.ts'
import { settingsFor } from './distributions.ts'
import { judgeConfigPath, judgeDiscard } from './rules.ts'

/** Restarting containerd leaves running containers alone: their shims keep them. */
export const RESTART = 'systemctl restart containerd'

/** What makes containerd look where the hosts.toml files are. */
export async function remedyForConfigPath(check: ConfigCheck): Promise<Remedy | undefined> {
  const { distribution, expectation, dialect, readings, files, running } = check
  const restart = distribution?.restart ?? RESTART
  const paths = remedyForPaths(check)
  if (paths !== undefined) return paths
  const right = readings.all.every(({ settings }) => {
    const told = { value: settings.configPath.value, where: '' }
    return judgeConfigPath(told, expectation, dialect, settings).severity === 'ok'
  })
  if (right && running.configPath !== undefined && readings.loaded.problems.length === 0) return restartOnly(restart)
  const elsewhere = otherDirectory(check)
  if (elsewhere !== undefined) {
    return {
      text: `let swarmirror use the directory that containerd uses (--certs-dir ${elsewhere}); containerd stays as it is`,
      lines: [`${variableOf('certs-dir')}=${elsewhere}`],
    }
  }
  if (distribution?.remedy !== undefined) return distribution.remedy(situationOf(check))
  const mirrors = readings.all.some(({ settings }) => settings.mirrors !== undefined)
  const wanted = { name: 'config_path', value: expectation.certsDir, withoutMirrors: mirrors } as const
  const change = await planChange(wanted, readings, files, dialect)
  const moved = mirrors ? '; the endpoints of registry.mirrors belong into hosts.toml files from then on' : ''
  if (change !== undefined) {
    return { text: `set config_path in containerd's configuration${moved}`, ...change, command: restart }
  }
  const id = JSON.stringify(dialect.migration === 'none' ? OLD_PLUGIN : IMAGES_PLUGIN)
  const [problem] = readings.loaded.problems
  if (problem?.kind === 'missing' && problem.importedBy === undefined) {
    const version = `version = ${dialect.migration === 'none' ? 2 : 3}`
    return {
      text: 'make this file, since there is none; if containerd runs with another, name that with --containerd-config',
      file: files.path,
      lines: [version, '', `[plugins.${id}.registry]`, `  config_path = ${JSON.stringify(expectation.certsDir)}`],
      command: restart,
    }
  }
  const text = `set registry.config_path = ${JSON.stringify(expectation.certsDir)} in plugin ${id}${moved}`
  return { text, command: restart }
}

/** What makes containerd keep its layers. */
export async function remedyForDiscard(check: ConfigCheck): Promise<Remedy | undefined> {
  const { distribution, dialect, readings, files, running } = check
  const restart = distribution?.restart ?? RESTART
  const right = readings.all.every(
    ({ settings }) => judgeDiscard({ value: settings.discardUnpackedLayers.value, where: '' }).severity === 'ok',
  )
  if (right && running.discardUnpackedLayers !== undefined && readings.loaded.problems.length === 0) {
    return restartOnly(restart)
  }
  if (distribution?.remedy !== undefined) return distribution.remedy(situationOf(check))
  const wanted = { name: 'discard_unpacked_layers', value: false, withoutMirrors: false } as const
  const change = await planChange(wanted, readings, files, dialect)
  const text =
    'turn discard_unpacked_layers off; images that were pulled before must be pulled again to be shared whole'
  return change === undefined ? { text, command: restart } : { text, ...change, command: restart }
}

/** What makes the sharing policy one that containerd knows. */
export function remedyForSharing({ readings, distribution }: ConfigCheck): Remedy {
  const { source } = readings.all[0]?.settings.sharingPolicy ?? {}
  const text = readings.loaded.files.find(({ path }) => path === source?.file)?.text ?? ''
  const edits = [BOLT_PLUGIN, 'bolt']
    .map((id) => planSetting(text, ['plugins', id, 'content_sharing_policy'], 'shared'))
    .find((edits) => edits?.[0]?.kind === 'replace')
  const told = { text: 'write "shared", or "isolated"', command: distribution?.restart ?? RESTART }
  return edits === undefined ? told : { ...told, file: source?.file, edits }
}

/** What makes this program look where the distribution has everything; `undefined` if it does, or if there is nothing to look at. */
export function remedyForPaths({ distribution, readings }: ConfigCheck): Remedy | undefined {
  const [problem] = readings.loaded.problems
  if (distribution === undefined || problem?.kind !== 'missing' || problem.importedBy !== undefined) return undefined
  const lines = settingsFor(distribution).map(({ name, value }) => `${variableOf(name)}=${value}`)
  const used = distribution.configFile === problem.file
  return used || lines.length === 0 ? undefined : { text: `give swarmirror the paths of ${distribution.name}`, lines }
}

/** What lets a file be read. */
export function remedyForProblem(problem: ConfigProblem, check: ConfigCheck): Remedy {
  const { files } = check
  const place = problem.line === undefined ? problem.file : `${problem.file} line ${problem.line}`
  const test = configDump(files.path)
  const paths = remedyForPaths(check)
  if (problem.kind === 'missing' && problem.importedBy === undefined && paths !== undefined) return paths
  if (problem.kind === 'unreadable' || (problem.kind === 'missing' && problem.importedBy === undefined)) {
    return { text: `let swarmirror read ${problem.file}, or name containerd's file with --containerd-config` }
  }
  if (problem.kind === 'missing') {
    return { text: `make ${problem.file}, or take it out of imports in ${problem.importedBy}`, command: test }
  }
  return { text: `correct ${place}, until containerd prints its configuration`, command: test }
}

/** What a remedy of a distribution depends on. */
export function situationOf({ readings, dialect, expectation }: ConfigCheck): Situation {
  const version = readings.loaded.files[0]?.version ?? 0
  return {
    plugin: dialect.migration === 'none' || version === 2 ? 'old' : 'images',
    certsDir: expectation.certsDir,
    registryDoor: expectation.registryDoor,
  }
}

/** What makes containerd take its files again. */
export function remedyForRefusal(mainFile: string): Remedy {
  return { text: 'correct it, until containerd prints its configuration', command: configDump(mainFile) }
}

const configDump = (mainFile: string) => `containerd --config ${mainFile} config dump`

function restartOnly(restart: string): Remedy {
  return { text: 'restart containerd: its files are right, but it has not read them since', command: restart }
}

/** The one directory that is set in place of ours, if there is one. */
function otherDirectory({ running, readings, dialect }: ConfigCheck): string | undefined {
  const values = new Set<unknown>(readings.all.map(({ settings }) => settings.configPath.value))
  if (running.configPath !== undefined && readings.loaded.files.length === 0) values.add(running.configPath.value)
  const [value] = values
  if (values.size !== 1 || typeof value !== 'string' || !value.startsWith('/')) return undefined
  if (readings.all.some(({ settings }) => settings.mirrors !== undefined)) return undefined
  const paths = value.split(':').filter((path) => path !== '')
  // A list that is not split must be changed anyway; one that is, serves with its first directory.
  return paths.length === 1 || dialect.splitsConfigPath ? paths[0] : undefined
}
