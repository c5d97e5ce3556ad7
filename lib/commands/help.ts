import { SETTINGS, type SettingDeclaration, type SettingName, variableOf } from '../settings/settings.ts'
import type { Command } from './command.ts'

const SETTINGS_HEADING = 'each with its environment variable (the flag wins) and its default:'

/**
 * The text of `--help`: all commands, and the flags of `serve`.
 *
 * @param program what a person types to run this program
 */
export function helpText(program: string, commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  return lines([
    'swarmirror: a peer-to-peer mirror of container images, beside containerd',
    '',
    `Usage: ${program} [command] [flags]`,
    '',
    'Commands:',
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    `\`${program} COMMAND --help\` tells more of a command.`,
    '',
    `Flags of serve, ${SETTINGS_HEADING}`,
    ...describe(ALL_SETTINGS),
  ])
}

/** The help of one command. */
export function commandHelp(program: string, command: Command): string {
  const { name, summary, example, switches = {}, settings = [] } = command
  const flags = Object.entries(switches).flatMap(([flag, meaning]) => [`  --${flag}`, `      ${meaning}`])
  return lines([
    `swarmirror ${name}: ${summary}`,
    '',
    `Usage: ${program} ${name}${command.settings === undefined ? '' : ' [flags]'}`,
    ...(example === undefined ? [] : [`Example: ${program} ${name} ${example}`]),
    ...(flags.length === 0 ? [] : ['', 'Flags:', ...flags]),
    ...(settings.length === 0 ? [] : ['', `Settings, ${SETTINGS_HEADING}`, ...describe(settings)]),
  ])
}

export const ALL_SETTINGS = Object.keys(SETTINGS) as readonly SettingName[]

/** Settings with their variables, defaults and meanings, in the order in which they are declared. */
function describe(names: readonly SettingName[]): string[] {
  return ALL_SETTINGS.filter((name) => names.includes(name)).flatMap((name) => {
    const { default: fallback, shownDefault = 'none', meaning }: SettingDeclaration = SETTINGS[name]
    return [`  --${name}, ${variableOf(name)} (${fallback ?? shownDefault})`, `      ${meaning}`]
  })
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join('')
}
