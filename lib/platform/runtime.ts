/** The runtimes that this program runs on. */
export type RuntimeName = 'node' | 'deno' | 'bun'

/** The runtime that runs now. Deno and Bun also answer to what is Node's, so they are asked for first. */
export const runtimeName: RuntimeName = 'Deno' in globalThis ? 'deno' : 'Bun' in globalThis ? 'bun' : 'node'
