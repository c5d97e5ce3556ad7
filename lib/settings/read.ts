import * as v from 'valibot'
import {
  type Address,
  ConfigurationError,
  isLoopback,
  SETTINGS,
  type SettingName,
  type Settings,
  variableOf,
} from './settings.ts'
import { isSwarmKey, splitKeys } from './values.ts'

/** What settings are read from. */
export interface SettingSources {
  readonly flags: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Reads a small text file; throws what `node:fs` throws. */
  readonly readFile: (path: string) => string
  /**
   * Whether the doors will be opened (the default). If not, the swarm key is not asked for, its file is not read, and the
   * doors may contradict each other: nothing of it matters to a command that only looks or writes hosts.toml.
   */
  readonly opensDoors?: boolean
}

/**
 * Reads all settings: a flag wins over its variable, a variable over the default. An empty variable counts as unset,
 * since that is how manifests and unit files leave one out.
 *
 * @throws {ConfigurationError} with every problem there is: unknown flags, bad values, contradictions
 */
export function readSettings({ flags, environment, readFile, opensDoors = true }: SettingSources): Settings {
  const problems: string[] = []
  const given = { ...readEnvironment(environment), ...readFlags(flags, problems) }
  const read = (name: SettingName, value: Given) => {
    const result = v.safeParse(SETTINGS[name].schema, value.text)
    if (result.success) return result.output
    const shown = name === 'swarm-key' ? '' : ` ${JSON.stringify(value.text)}`
    problems.push(`${value.origin}${shown}: ${result.issues.map((issue) => issue.message).join('; ')}`)
    return undefined
  }
  const settings = {} as Record<SettingName, unknown>
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const fallback = SETTINGS[name].default
    const value = given[name] ?? (fallback === undefined ? undefined : { text: fallback, origin: 'default' })
    settings[name] = value === undefined ? undefined : read(name, value)
  }
  const keyFile = given['swarm-key-file']
  if (keyFile !== undefined && given['swarm-key'] !== undefined) {
    problems.push(`${given['swarm-key'].origin} and ${keyFile.origin}: give one of them, not both`)
  } else if (keyFile !== undefined && opensDoors) {
    try {
      settings['swarm-key'] = read('swarm-key', { text: readFile(keyFile.text).trim(), origin: keyFile.origin })
    } catch (error) {
      problems.push(`${keyFile.origin} ${JSON.stringify(keyFile.text)}: ${(error as Error).message}`)
    }
  }
  if (given.registries !== undefined && given.also !== undefined) {
    const [registries, also] = [given.registries.origin, given.also.origin]
    problems.push(`${registries} and ${also}: ${also} adds to all registries; with ${registries}, name them all there`)
  }
  const keyGiven = keyFile !== undefined || given['swarm-key'] !== undefined
  if (opensDoors) problems.push(...contradictions(settings as Partial<Settings>, keyGiven))
  if (problems.length > 0) throw new ConfigurationError(tellable(problems, [...flags, ...Object.values(environment)]))
  return settings as Settings
}

/** A text that was given for a setting, and where, as a user would look for it. */
interface Given {
  readonly text: string
  readonly origin: string
}

type GivenSettings = Partial<Record<SettingName, Given>>

function readEnvironment(environment: SettingSources['environment']): GivenSettings {
  const given: GivenSettings = {}
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const variable = variableOf(name)
    const value = environment[variable]
    if (value !== undefined && value !== '') given[name] = { text: value, origin: variable }
  }
  return given
}

/** Reads `--name value` and `--name=value`. A value that follows does not begin with `--`: that is the next flag. */
function readFlags(flags: readonly string[], problems: string[]): GivenSettings {
  const given: GivenSettings = {}
  for (let at = 0; at < flags.length; at++) {
    const flag = flags[at] ?? ''
    if (!flag.startsWith('-')) {
      problems.push(`unexpected argument ${JSON.stringify(flag)}`)
      continue
    }
    const [, origin = flag, inline] = /^([^=]*)=(.*)$/s.exec(flag) ?? []
    const name = origin.slice(2)
    if (!origin.startsWith('--') || !isSettingName(name)) {
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
  return given
}

function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(SETTINGS, name)
}

/**
 * Makes of each problem one line that may be logged: without control characters, and without a swarm key that was given
 * in a wrong place.
 */
function tellable(problems: readonly string[], given: readonly (string | undefined)[]): string[] {
  const secrets = given
    // A key may begin with a dash itself, so none, one and two are taken off.
    .flatMap((text = '') => [text, text.slice(1), text.slice(2), text.slice(text.indexOf('=') + 1)])
    .flatMap(splitKeys)
    .filter(isSwarmKey)
    .map((secret) => new RegExp(secret, 'gi'))
  return problems.map((problem) => {
    const safe = secrets.reduce((text, secret) => text.replace(secret, '(swarm key)'), problem)
    return safe.replace(
      /[\p{Cc}\u2028\u2029]/gu,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
  })
}

/** What is wrong between settings, as far as they could be read. */
function contradictions(settings: Partial<Settings>, keyGiven: boolean): string[] {
  const problems: string[] = []
  const doors = (['listen', 'peer-listen', 'admin-listen'] as const).flatMap((name) => {
    const address = settings[name]
    return address === undefined ? [] : [{ flag: `--${name}`, address }]
  })
  const open = doors.filter(({ address }) => !isLoopback(address.host))
  if (open.length > 0 && !keyGiven) {
    const flags = open.map(({ flag }) => flag).join(', ')
    problems.push(
      `${flags}: a door beyond loopback needs a swarm key; give --swarm-key or --swarm-key-file (\`key\` prints a fresh one)`,
    )
  }
  for (const [index, { flag, address }] of doors.entries()) {
    for (const other of doors.slice(index + 1)) {
      if (collide(address, other.address)) problems.push(`${flag} and ${other.flag}: both on port ${address.port}`)
    }
  }
  return problems
}

function collide(a: Address, b: Address): boolean {
  const everywhere = (host: string) => host === '0.0.0.0' || host === '::'
  return a.port !== 0 && a.port === b.port && (a.host === b.host || everywhere(a.host) || everywhere(b.host))
}
