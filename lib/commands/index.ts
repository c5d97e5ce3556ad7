import { randomBytes } from 'node:crypto'
import manifest from '../../package.json' with { type: 'json' }
import { paintFor } from '../observe/paint.ts'
import { asLines } from '../settings/read.ts'
import { ConfigurationError } from '../settings/settings.ts'
import { check } from './check.ts'
import { type Command, type CommandContext, EX_CONFIG, programText } from './command.ts'
import { demo } from './demo.ts'
import { ALL_SETTINGS, commandHelp, helpText } from './help.ts'
import { hosts } from './hosts.ts'
import { serve } from './serve.ts'

/** Bytes of a swarm key. */
const KEY_SIZE = 32

const key: Command = {
  name: 'key',
  summary: 'print a fresh swarm key',
  example: '> swarm.key',
  run: async ({ print }) => print(`${randomBytes(KEY_SIZE).toString('base64url')}\n`),
}

const version: Command = {
  name: 'version',
  summary: 'print the version',
  run: async ({ print }) => print(`${manifest.name} ${manifest.version}\n`),
}

export const COMMANDS: readonly Command[] = [serve, check, hosts, demo, key, version]

/**
 * Runs the command that the arguments name (by default `serve`) and returns the exit code: 0; 78 for a configuration that
 * cannot work, with one line per problem; 1 for anything else, with the cause.
 */
export async function runCommand(context: CommandContext): Promise<number> {
  const [first, ...rest] = context.args
  const isNamed = first !== undefined && !first.startsWith('-')
  const named = first === 'help' ? rest[0] : isNamed ? first : undefined
  const tellable = asLines(context.args)
  const command = named === undefined ? serve : COMMANDS.find(({ name }) => name === named)
  if (asks(context.args, '--help', '-h') || first === 'help') {
    const program = programText(context)
    const paint = paintFor(context.terminal.output, context.environment)
    const isOfOne = named !== undefined && command !== undefined
    context.print(isOfOne ? commandHelp(program, command, paint) : helpText(program, COMMANDS, paint))
    return 0
  }
  if (command === undefined) {
    const names = COMMANDS.map(({ name }) => name).join(', ')
    context.report(`${tellable(`unknown command ${JSON.stringify(first)}`)}; the commands are ${names}; see --help\n`)
    return EX_CONFIG
  }
  const isVersion = asks(context.args, '--version', '-v')
  const args = isVersion ? [] : isNamed ? rest : context.args
  try {
    if (command.settings === undefined && args[0] !== undefined)
      throw new ConfigurationError([tellable(`${command.name}: unexpected argument ${JSON.stringify(args[0])}`)])
    await (isVersion ? version : command).run({ ...context, args })
    return 0
  } catch (error) {
    const paint = paintFor(context.terminal.errors, context.environment)
    if (error instanceof ConfigurationError) {
      // The first line of a finding says what is wrong; the lines below say what to do.
      const shown = error.problems.map((problem) => `${problem.replace(/^.*/, (line) => paint('red', line))}\n`)
      context.report(shown.join(''))
      if (context.terminal.errors && error.problems.length > 0)
        context.report(`\n${programText(context)} ${command.name} --help   shows the flags of ${command.name}\n`)
      return EX_CONFIG
    }
    if (context.stop.aborted && error instanceof Error && error.name === 'AbortError') {
      context.report(`${command.name} was stopped before it was done\n`)
      return 1
    }
    context.report(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    return 1
  }
}

/** Whether a flag without a value is among the arguments. Its short form may also be the value of the setting before it. */
function asks(args: readonly string[], long: string, short: string): boolean {
  const isValue = (at: number) => ALL_SETTINGS.some((name) => args[at - 1] === `--${name}`)
  return args.some((arg, at) => arg === long || (arg === short && !isValue(at)))
}
