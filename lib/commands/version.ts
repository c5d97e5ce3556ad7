import manifest from '../../package.json' with { type: 'json' }
import type { Command } from './command.ts'

export const version: Command = {
  name: 'version',
  summary: 'print the version',
  async run({ print }) {
    print(`${manifest.name} ${manifest.version}\n`)
  },
}
