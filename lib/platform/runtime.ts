import { existsSync, readFileSync } from 'node:fs'
import process from 'node:process'

/** The runtimes that this program runs on. */
export type RuntimeName = 'node' | 'deno' | 'bun'

/** The runtime of this process. Deno and Bun have Node's globals too, so they are checked first. */
export const runtimeName: RuntimeName = 'Deno' in globalThis ? 'deno' : 'Bun' in globalThis ? 'bun' : 'node'

export const runtimeVersion = process.versions[runtimeName] ?? 'unknown'

/** Where an executable made by Bun keeps its files. */
const INSIDE_EXECUTABLE = '/$bunfs/'

/**
 * The program and the leading arguments that run a script on the runtime of this process. Deno needs a command and its
 * permissions; Node and Bun get their own arguments again (`process.execArgv`); an executable is its own script.
 */
export function selfCommand(script: string): readonly [program: string, ...args: string[]] {
  if (runtimeName === 'deno') return [process.execPath, 'run', '--allow-all', script]
  if (script.startsWith(INSIDE_EXECUTABLE)) return [process.execPath]
  return [process.execPath, ...process.execArgv, script]
}

/** OCI's names of architectures that Node names differently. */
const ARCHITECTURES: Readonly<Record<string, { readonly architecture: string; readonly variant?: string }>> = {
  x64: { architecture: 'amd64' },
  ia32: { architecture: '386' },
  arm: { architecture: 'arm', variant: 'v7' },
  ppc64: { architecture: 'ppc64le' },
}

/** The platform of this machine's images, in OCI's names. */
export const ownPlatform = { os: 'linux', ...(ARCHITECTURES[process.arch] ?? { architecture: process.arch }) }

/**
 * How many file descriptors this process may have open; 0 without /proc or without a limit. It is read at the start, because at
 * the limit no file can be opened.
 */
export const OPEN_FILES_LIMIT = openFilesLimit()

function openFilesLimit(): number {
  const path = '/proc/self/limits'
  if (!existsSync(path)) return 0
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync(path, 'utf8')) ?? []
  return Number(soft ?? 0)
}

/**
 * Gives memory back to the system; call it when the process is at rest. Only Bun needs it, where it takes 30 ms. Garbage and
 * compiled code are 15 MiB of a mirror after a pull. What runs after that must be compiled again.
 */
export function giveMemoryBack(): void {
  const { Bun: bun } = globalThis as { readonly Bun?: { gc(force: boolean): void; shrink(): void } }
  bun?.gc(true)
  bun?.shrink()
}

/**
 * Frees the memory of a buffer that nobody uses any more. Only Bun needs it, because its garbage collector comes late: 50 slow
 * readers took 249 MiB, and 110 MiB with each buffer freed after its last byte.
 *
 * @param bytes all or part of the buffer, which must not come from a pool
 */
export function freeMemory({ buffer }: Uint8Array): void {
  if (runtimeName === 'bun' && buffer instanceof ArrayBuffer) buffer.transfer(0)
}
