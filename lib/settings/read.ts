import { readFileSync, statSync } from 'node:fs'
import * as v from 'valibot'
import { escaped } from '../observe/log.ts'
import { isLoopback } from '../platform/address.ts'
import {
  type Address,
  ConfigurationError,
  doorsOf,
  SETTINGS,
  type SettingDeclaration,
  type SettingName,
  type Settings,
  variableOf,
} from './settings.ts'
import { isSwarmKey } from './values.ts'

/** The sources of settings. */
export interface SettingSources {
  readonly flags: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Whether the command opens the doors (the default). Otherwise it needs no swarm key, and the doors' addresses may clash. */
  readonly opensDoors?: boolean
  /** Whether to read the file with the swarm key, if one is set; by default only if the command opens the doors. */
  readonly readsKey?: boolean
}

/** The result of reading the arguments and the environment. */
export interface CommandLine<Switch extends string> {
  readonly settings: Settings
  /** Whether each of the command's own flags without a value, such as `--json`, was given. */
  readonly switches: Readonly<Record<Switch, boolean>>
  /** Settings that work but should be changed, one line each. */
  readonly warnings: readonly string[]
}

/**
 * Reads all settings. A flag wins over its variable, and a variable over the default. An empty variable counts as unset,
 * because manifests and unit files unset a variable that way.
 *
 * @param switches the command's own flags without a value, by their names without dashes
 * @throws {ConfigurationError} with all problems: unknown flags, bad values, contradictions
 */
export function readCommandLine<const Switch extends string>(
  { flags, environment, opensDoors = true, readsKey = opensDoors }: SettingSources,
  switches: Readonly<Record<Switch, unknown>>,
): CommandLine<Switch> {
  const problems: string[] = []
  const warnings: string[] = []
  const { given: asFlags, switched } = readFlags(flags, Object.keys(switches) as Switch[], problems)
  const given = { ...readEnvironment(environment), ...asFlags }
  const read = (name: SettingName, value: Given) => {
    const result = v.safeParse(SETTINGS[name].schema, value.text)
    if (result.success) return result.output
    const shown = name === 'swarm-key' ? '' : ` ${JSON.stringify(value.text)}`
    problems.push(`${value.origin}${shown}: ${result.issues.map((issue) => issue.message).join('; ')}`)
    return undefined
  }
  const settings = {} as Record<SettingName, unknown>
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const { default: fallback }: SettingDeclaration = SETTINGS[name]
    const value = given[name] ?? (fallback === undefined ? undefined : { text: fallback, origin: 'default' })
    settings[name] = value === undefined ? undefined : read(name, value)
  }
  const { 'swarm-key': key, 'swarm-key-file': keyFile } = given
  if (asFlags['swarm-key'] !== undefined)
    warnings.push('--swarm-key: everybody on this machine sees it in the list of processes; use --swarm-key-file')
  if (keyFile !== undefined && key !== undefined) {
    problems.push(`${key.origin} and ${keyFile.origin}: give one of them, not both`)
  } else if (keyFile !== undefined && readsKey) {
    const { text: path, origin } = keyFile
    try {
      settings['swarm-key'] = read('swarm-key', { text: readFileSync(path, 'utf8').trim(), origin })
      if ((statSync(path).mode & READABLE_BY_OTHERS) !== 0)
        warnings.push(`${origin} ${JSON.stringify(path)}: every user of this machine may read it; use chmod o= on it`)
    } catch (error) {
      problems.push(`${origin} ${JSON.stringify(path)}: ${(error as Error).message}`)
    }
  }
  if (given.registries !== undefined && given.also !== undefined) {
    const [registries, also] = [given.registries.origin, given.also.origin]
    problems.push(`${registries} and ${also}: ${also} adds to all registries; with ${registries}, name them all there`)
  }
  if (opensDoors)
    problems.push(...contradictions(settings as Partial<Settings>, key !== undefined || keyFile !== undefined))
  const tellable = asLines([...flags, ...Object.values(environment)])
  if (problems.length > 0) throw new ConfigurationError(problems.map(tellable))
  return { settings: settings as Settings, switches: switched, warnings: warnings.map(tellable) }
}

/** In a file's mode (`st_mode`). */
const READABLE_BY_OTHERS = 0o004

/** The text of a setting, and the flag or variable that it came from. */
interface Given {
  readonly text: string
  readonly origin: string
}

type GivenSettings = Partial<Record<SettingName, Given>>

function readEnvironment(environment: SettingSources['environment']): GivenSettings {
  const given: GivenSettings = {}
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const { sharedVariables = [] }: SettingDeclaration = SETTINGS[name]
    const variable = [variableOf(name), ...sharedVariables].find((variable) => environment[variable])
    if (variable !== undefined) given[name] = { text: environment[variable] ?? '', origin: variable }
  }
  return given
}

/** Reads `--name value`, `--name=value` and switches. An argument that begins with `--` is always a flag and never a value. */
function readFlags<Switch extends string>(flags: readonly string[], names: readonly Switch[], problems: string[]) {
  const given: GivenSettings = {}
  const switched = Object.fromEntries(names.map((name) => [name, false])) as Record<Switch, boolean>
  for (let at = 0; at < flags.length; at++) {
    const flag = flags[at] ?? ''
    if (!flag.startsWith('-')) {
      problems.push(`unexpected argument ${JSON.stringify(flag)}`)
      continue
    }
    const [, origin = flag, inline] = /^([^=]*)=(.*)$/s.exec(flag) ?? []
    const name = origin.slice(2)
    const isFlag = origin.startsWith('--')
    if (isFlag && Object.hasOwn(switched, name)) {
      if (inline !== undefined) problems.push(`${origin}: takes no value`)
      switched[name as Switch] = true
      continue
    }
    if (!isFlag || !isSettingName(name)) {
      problems.push(`unknown flag ${origin}; see --help`)
      continue
    }
    const next = flags[at + 1]
    const following = next?.startsWith('--') ? undefined : next
    if (inline === undefined && following !== undefined) at++
    const text = inline ?? following
    if (text === undefined) problems.push(`${origin}: expected a value`)
    else if (given[name] !== undefined) problems.push(`${origin}: given more than once`)
    else given[name] = { text, origin }
  }
  return { given, switched }
}

function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(SETTINGS, name)
}

/**
 * Turns a text into one line that may be logged: without control characters, and without a swarm key that was given in the
 * wrong place.
 *
 * @param given all texts that could contain a key
 */
export function asLines(given: readonly (string | undefined)[]): (text: string) => string {
  const secrets = given
    .flatMap((text = '') => text.split(/[^\w-]+/))
    // A key may itself begin with a dash or an underscore, so try with none, one and two characters taken off.
    .flatMap((part) => [part, part.slice(1), part.slice(2)])
    .filter(isSwarmKey)
    .map((secret) => new RegExp(secret, 'gi'))
  return (text) =>
    escaped(
      secrets.reduce((left, secret) => left.replace(secret, '(swarm key)'), text),
      /[\p{Cc}\u2028\u2029]/gu,
    )
}

/** Contradictions between settings, as far as they could be read. */
function contradictions(settings: Partial<Settings>, keyGiven: boolean): string[] {
  const problems: string[] = []
  const doors = doorsOf(settings)
  const open = doors.filter(({ host }) => !isLoopback(host))
  if (open.length > 0 && !keyGiven) {
    const flags = open.map(({ flag }) => `--${flag}`).join(', ')
    problems.push(
      `${flags}: a door beyond loopback needs a swarm key; give --swarm-key or --swarm-key-file (\`key\` prints a fresh one)`,
    )
  }
  for (const [index, door] of doors.entries()) {
    for (const other of doors.slice(index + 1)) {
      if (collide(door, other)) problems.push(`--${door.flag} and --${other.flag}: both on port ${door.port}`)
    }
  }
  return problems
}

function collide(a: Address, b: Address): boolean {
  const everywhere = (host: string) => host === '0.0.0.0' || host === '::'
  return a.port !== 0 && a.port === b.port && (a.host === b.host || everywhere(a.host) || everywhere(b.host))
}
