import { shellWord } from '../containerd/shell.ts'
import type { CommandContext } from './command.ts'

/** The scripts of package.json that run main.ts. */
const SCRIPTS: readonly string[] = ['node', 'deno', 'bun']

/** What a person types, before the arguments, to start this program in the same way again. */
export function programText({ self, environment }: Pick<CommandContext, 'self' | 'environment'>): string {
  const { npm_lifecycle_event: script } = environment
  if (script !== undefined && SCRIPTS.includes(script)) return `npm run ${script} --`
  return self.map(shellWord).join(' ')
}
