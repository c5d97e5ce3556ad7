import manifest from '../../package.json' with { type: 'json' }
import { ConfigurationError } from '../settings/settings.ts'
import type { Command } from './command.ts'

/** Prints the version. */
export const version: Command = {
  name: 'version',
  summary: 'print the version',
  async run({ args, print }) {
    if (args.length > 0) throw new ConfigurationError([`version: unexpected argument ${JSON.stringify(args[0])}`])
    print(`${manifest.name} ${manifest.version}\n`)
  },
}
