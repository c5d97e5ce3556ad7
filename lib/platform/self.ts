import process from 'node:process'
import { runtimeName } from './runtime.ts'

/** Where an executable that Bun made keeps its files. */
const INSIDE_EXECUTABLE = '/$bunfs/'

/**
 * The program and leading arguments that run a script again on the runtime that runs now. Deno alone needs to be told
 * to run it, and with which permissions; `process.execArgv` holds what Node and Bun were given. An executable is its own
 * script.
 */
export function selfCommand(script: string): readonly [program: string, ...args: string[]] {
  if (runtimeName === 'deno') return [process.execPath, 'run', '--allow-all', script]
  if (script.startsWith(INSIDE_EXECUTABLE)) return [process.execPath]
  return [process.execPath, ...process.execArgv, script]
}
