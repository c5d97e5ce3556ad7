import { randomBytes } from 'node:crypto'
import { ConfigurationError } from '../settings/settings.ts'
import type { Command } from './command.ts'

/** Prints a fresh swarm key. */
export const key: Command = {
  name: 'key',
  summary: 'print a fresh swarm key',
  async run({ args, print }) {
    if (args.length > 0) throw new ConfigurationError([`key: unexpected argument ${JSON.stringify(args[0])}`])
    print(`${randomBytes(32).toString('base64url')}\n`)
  },
}
