import { SETTINGS, variableOf } from '../settings/settings.ts'
import type { Command } from './command.ts'

/** The text of `--help`, generated from the commands and the settings. */
export function helpText(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  const lines = [
    'swarmirror: a peer-to-peer mirror of container images, beside containerd',
    '',
    'Usage: main.ts [command] [flags]',
    '',
    'Commands:',
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'Flags of serve, each with its environment variable (the flag wins) and its default:',
  ]
  for (const row of settingRows()) {
    lines.push(`  ${row.flag}, ${row.variable} (${row.default})`, `      ${row.meaning}`)
  }
  return `${lines.join('\n')}\n`
}

/** One row of the table of settings, for `--help` and the README. */
export interface SettingRow {
  readonly flag: string
  readonly variable: string
  readonly default: string
  readonly meaning: string
}

export function settingRows(): SettingRow[] {
  return Object.entries(SETTINGS).map(([name, setting]) => ({
    flag: `--${name}`,
    variable: variableOf(name),
    default: setting.default ?? ('shownDefault' in setting ? setting.shownDefault : 'none'),
    meaning: setting.meaning,
  }))
}
