import { type Paint, plain } from '../observe/paint.ts'
import { SETTINGS, type SettingDeclaration, type SettingName, variableOf } from '../settings/settings.ts'
import type { Command } from './command.ts'

/** Characters of a line: with a margin, they fit into a terminal of usual size. */
const WIDTH = 96

/** The headings of groups of settings, by the first setting of each group. */
const HEADINGS: Partial<Record<SettingName, string>> = {
  listen: 'Doors',
  'advertise-host': 'The swarm',
  store: 'containerd',
  registries: 'Which images are mirrored, and who resolves',
  'lookup-timeout': 'Transfers between nodes',
  'data-dir': 'Other',
}

/**
 * The text of `--help`: what the program is, and all commands.
 *
 * @param program what a person types to run this program
 */
export function helpText(program: string, commands: readonly Command[], paint: Paint = plain): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  return lines([
    paint('bold', 'swarmirror: a peer-to-peer mirror of container images, beside containerd'),
    '',
    `Usage: ${program} [COMMAND] [FLAGS]`,
    '',
    paint('bold', 'Commands:'),
    ...commands.map(({ name, summary }) => `  ${paint('bold', name.padEnd(width))}  ${summary}`),
    '',
    paint('bold', 'Help:'),
    `  ${program} COMMAND --help   the flags of a command, with their defaults and an example`,
    `  ${program} --version        the version`,
  ])
}

/** The help of one command. */
export function commandHelp(program: string, command: Command, paint: Paint = plain): string {
  const { name, summary, example, switches = {}, settings } = command
  const flags = Object.entries(switches).flatMap(([flag, meaning]) => described(`--${flag}`, '', meaning, paint))
  return lines([
    paint('bold', `swarmirror ${name}: ${summary}`),
    '',
    `Usage:   ${program} ${name}${settings === undefined ? '' : ' [FLAGS]'}`,
    `Example: ${program} ${name}${example === undefined ? '' : ` ${example}`}`,
    ...(flags.length === 0 ? [] : ['', paint('bold', 'Flags:'), ...flags]),
    ...(settings === undefined ? [] : ['', ...settingsHelp(settings, paint)]),
  ])
}

export const ALL_SETTINGS = Object.keys(SETTINGS) as readonly SettingName[]

/** Settings in the order in which they are declared, below the headings of their groups. */
function settingsHelp(names: readonly SettingName[], paint: Paint): string[] {
  const told = ['Settings take a value. Each has an environment variable, too; the flag wins.']
  let heading: string | undefined
  for (const name of ALL_SETTINGS) {
    heading = HEADINGS[name] ?? heading
    if (!names.includes(name)) continue
    if (heading !== undefined) told.push('', paint('bold', `${heading}:`))
    heading = undefined
    const { default: fallback, shownDefault = 'none', meaning }: SettingDeclaration = SETTINGS[name]
    const beside = `  ${variableOf(name)}  (default: ${fallback ?? shownDefault})`
    told.push(...described(`--${name}`, beside, meaning, paint))
  }
  return told
}

/** A flag on its own line, and its meaning below. */
function described(flag: string, beside: string, meaning: string, paint: Paint): string[] {
  return [`  ${paint('bold', flag)}${paint('dim', beside)}`, ...wrapped(meaning, WIDTH).map((line) => `      ${line}`)]
}

/** Wraps a text between words. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last === undefined || last.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join('')
}
