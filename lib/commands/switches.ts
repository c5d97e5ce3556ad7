import { readSettings, type SettingSources } from '../settings/read.ts'
import { ConfigurationError, type Settings } from '../settings/settings.ts'

/** Settings, and which of a command's own switches (flags without a value, such as `--json`) were given. */
export interface CommandLine<Switch extends string> {
  readonly settings: Settings
  readonly switches: Readonly<Record<Switch, boolean>>
}

/**
 * Reads the arguments of a command that takes switches besides the settings. A switch may stand anywhere but between a
 * flag and its value, and is given by its name alone.
 *
 * @param names the switches, without their dashes
 * @throws {ConfigurationError} with every problem there is, those of the settings included
 */
export function readCommandLine<const Switch extends string>(
  sources: SettingSources,
  names: readonly Switch[],
): CommandLine<Switch> {
  const problems: string[] = []
  const given = new Set<string>()
  const flags: string[] = []
  const valueless: string[] = []
  for (const flag of sources.flags) {
    const [origin = '', value] = split(flag)
    if (!names.some((name) => origin === `--${name}`)) {
      flags.push(flag)
      continue
    }
    if (value !== undefined) problems.push(`${origin}: takes no value`)
    given.add(origin)
    // The flag before it has no value then. At the end of the list it cannot take one that was not meant for it.
    if (awaitsValue(flags)) valueless.push(...flags.splice(-1))
  }
  const switches = Object.fromEntries(names.map((name) => [name, given.has(`--${name}`)])) as Record<Switch, boolean>
  const settings = attempt(() => readSettings({ ...sources, flags: [...flags, ...valueless] }), problems)
  if (settings === undefined || problems.length > 0) throw new ConfigurationError(problems)
  return { settings, switches }
}

function split(flag: string): [origin: string, value?: string] {
  const equals = flag.indexOf('=')
  return equals < 0 ? [flag] : [flag.slice(0, equals), flag.slice(equals + 1)]
}

/** Whether the last of these arguments is a flag whose value would be the next one. */
function awaitsValue(flags: readonly string[]): boolean {
  let awaits = false
  for (const flag of flags) awaits = flag.startsWith('--') ? !flag.includes('=') : false
  return awaits
}

function attempt(read: () => Settings, problems: string[]): Settings | undefined {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error
    problems.push(...error.problems)
    return undefined
  }
}
