import { readFile, readlink, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { PLAIN_PATHS } from './distribution.ts'

/** A flag of containerd's, in every way in which Go takes it. */
const FLAG = /^--?(?:config|c)(?:=(.*))?$/s

/** What can be seen of containerd's process. */
export interface ProcessView {
  /** As containerd tells it. */
  readonly pid: number
  /** The file that is read here. */
  readonly configFile: string
  /** The file that containerd was started with, if that is another one. */
  readonly startedWith: string | undefined
  /**
   * Whether this process sees the same files by the same paths as containerd: not if it runs in a container, nor where it
   * cannot look at containerd's process.
   */
  readonly seesAll: boolean
}

/**
 * Looks at containerd's process, as far as it can be seen: from a container without the node's processes it cannot. Files are
 * compared by what the paths lead to, since a container may see them elsewhere.
 *
 * @param proc where processes are found; another directory in tests
 */
export async function lookAtProcess(pid: number, configFile: string, proc = '/proc'): Promise<ProcessView> {
  const process = join(proc, String(pid))
  const [program = '', ...args] = (await readFile(join(process, 'cmdline'), 'utf8').catch(() => '')).split('\0')
  // In another namespace of processes, that number is somebody else's.
  if (!basename(program).startsWith('containerd')) return { pid, configFile, startedWith: undefined, seesAll: false }
  const [mounts, root] = await viewOf(process)
  const [ownMounts, ownRoot] = await viewOf(join(proc, 'self'))
  const seesAll = mounts !== undefined && mounts === ownMounts && root !== undefined && root === ownRoot
  const told = configIn(args)
  const used = told.startsWith('/') ? await identityOf(join(process, 'root', told)) : undefined
  const another = used !== undefined && used !== (await identityOf(configFile))
  return { pid, configFile, startedWith: another ? told : undefined, seesAll }
}

/** What tells the views of two processes apart: their mounts, and where they see the root of them. */
async function viewOf(process: string): Promise<[mounts: string | undefined, root: string | undefined]> {
  const mounts = await readlink(join(process, 'ns', 'mnt')).catch(() => undefined)
  return [mounts, await identityOf(join(process, 'root'))]
}

/** The configuration file that containerd's arguments name, or its default. */
function configIn(args: readonly string[]): string {
  let path = PLAIN_PATHS.configFile
  for (const [at, arg] of args.entries()) {
    const [flag, value] = FLAG.exec(arg) ?? []
    if (flag !== undefined) path = value ?? args[at + 1] ?? path
  }
  return path
}

/** Tells files apart; `undefined` for what is not there, or must not be looked at. */
async function identityOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path)
    return `${dev}:${ino}`
  } catch {
    // Nothing is said of what cannot be seen.
    return undefined
  }
}
