import process from 'node:process'
import { runtimeName } from './name.ts'

/**
 * The program and leading arguments that run a script again on the runtime that runs now. Deno alone needs to be told
 * to run it, and with which permissions; `process.execArgv` holds what Node and Bun were given.
 */
export function selfCommand(script: string): readonly [program: string, ...args: string[]] {
  if (runtimeName === 'deno') return [process.execPath, 'run', '--allow-all', script]
  return [process.execPath, ...process.execArgv, script]
}
