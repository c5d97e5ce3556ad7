import { variableOf } from '../../settings/settings.ts'
import { isUnreadable, type Rule, rule, type Verdict } from '../rule.ts'
import { type ConfigProblem, isMainMissing } from './config/load.ts'
import { type ConfigSnapshot, type ConfigView, remedyForPaths } from './config-view.ts'
import { asksMirror } from './probe.ts'
import { SETTING_RULES } from './setting-rules.ts'

/** Judges a file that containerd would refuse, or that this process could not read. */
function judgeProblem(problem: ConfigProblem, view: ConfigView): Verdict {
  const { kind, file, line, column, reason, importedBy } = problem
  const place = line === undefined ? file : `${file} line ${line}`
  const at = column === undefined ? place : `${place}, column ${column}`
  const seen = `${at}${importedBy === undefined ? '' : `, imported by ${importedBy}`}: ${reason}`
  // containerd may read what we may not. Its main file may be elsewhere, or not be mounted for us.
  if (kind === 'unreadable' || isMainMissing(problem)) {
    const text = `let swarmirror read ${file}, or name containerd's file with --containerd-config`
    return { severity: 'unknown', seen, remedy: remedyForPaths(view) ?? { text } }
  }
  const missing = `create ${file}, or remove it from imports in ${importedBy}`
  const text = kind === 'missing' ? missing : `correct ${place} until containerd can print its configuration`
  return { severity: 'error', seen, remedy: { text, command: configDump(view) } }
}

const configDump = ({ reader }: ConfigView) => `containerd --config ${reader.path} config dump`

/** Rules on containerd's configuration as its version reads it, from its process to single settings. */
export const CONFIG_RULES: readonly Rule<ConfigSnapshot>[] = [
  rule({
    id: 'containerd-config-in-use',
    reads: ({ process }: ConfigSnapshot) => process,
    judges({ pid, configFile, startedWith: used }) {
      const seen = `containerd (process ${pid}) was started with ${used}, and ${configFile} is another file`
      const remedy = { text: 'let swarmirror read that file', lines: [`${variableOf('containerd-config')}=${used}`] }
      return { severity: 'error', seen, remedy }
    },
    expected: 'containerd was started with the file that swarmirror reads',
    why: 'the findings come from a file that containerd does not use, so they mean nothing',
    provenBy: ({ probe }) => asksMirror(probe),
  }),

  rule({
    id: 'containerd-version',
    reads: ({ config }: ConfigSnapshot) => config,
    judges({ version, isKnown }) {
      if (isKnown) return { severity: 'ok', seen: `containerd ${version}` }
      const reason = isUnreadable(version) ? version.unreadable : `${JSON.stringify(version)} is not a version`
      const seen = `containerd's version could not be read: ${reason}`
      return { severity: 'unknown', seen, why: 'its configuration was read by the rules of the newest version' }
    },
    expected: 'containerd 1.6 or later',
    why: 'the rules of its configuration depend on it',
  }),

  rule({
    id: 'distribution',
    reads: ({ config }: ConfigSnapshot) => config,
    judges(view) {
      const name = view.distribution?.name
      const remedy = remedyForPaths(view)
      if (remedy === undefined) return { severity: 'ok', seen: name ?? 'no distribution with settings of its own' }
      return { severity: 'error', seen: `this is ${name}, and ${view.reader.path} is not there`, remedy }
    },
    expected: 'the paths of the distribution',
    why: 'a distribution may have containerd’s socket and files elsewhere, and write its configuration itself',
    provenBy: ({ probe }) => asksMirror(probe),
  }),

  rule({
    id: 'containerd-config-file',
    reads: ({ config }: ConfigSnapshot) => config,
    judges(view) {
      const { problems, files } = view
      if (problems.length > 0) return problems.map((problem) => judgeProblem(problem, view))
      if (files.length === 0) return []
      const why = 'the findings on its settings come from them'
      return { severity: 'ok', seen: `read ${files.map(({ path }) => path).join(', ')}`, why }
    },
    expected: 'every file of containerd’s configuration is there and can be read',
    why: 'containerd does not start with a file that it cannot read',
    provenBy: ({ probe }) => asksMirror(probe),
  }),

  ...SETTING_RULES,
]
