import { ConfigurationError } from '../settings/settings.ts'
import { check } from './check.ts'
import { type Command, type CommandContext, EX_CONFIG } from './command.ts'
import { demo } from './demo.ts'
import { helpText } from './help.ts'
import { hosts } from './hosts.ts'
import { key } from './key.ts'
import { serve } from './serve.ts'
import { version } from './version.ts'

export const COMMANDS: readonly Command[] = [serve, check, hosts, demo, key, version]

/**
 * Runs the command that the arguments name (`serve` if they name none) and gives the exit code: 0, 78 with one line per
 * problem for a configuration that cannot work, 1 with the cause for anything else.
 */
export async function runCommand(context: CommandContext): Promise<number> {
  const [first, ...rest] = context.args
  if (context.args.includes('--help') || first === 'help') {
    context.print(helpText(COMMANDS))
    return 0
  }
  const named = first !== undefined && !first.startsWith('-')
  const command = named ? COMMANDS.find(({ name }) => name === first) : serve
  if (command === undefined) {
    const names = COMMANDS.map(({ name }) => name).join(', ')
    context.report(`unknown command ${JSON.stringify(first)}; accepted are ${names} and --help\n`)
    return EX_CONFIG
  }
  try {
    await command.run(named ? { ...context, args: rest } : context)
    return 0
  } catch (error) {
    if (error instanceof ConfigurationError) {
      context.report(error.problems.map((problem) => `${problem}\n`).join(''))
      return EX_CONFIG
    }
    context.report(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    return 1
  }
}
