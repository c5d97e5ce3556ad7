import { readFile, readlink, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { variableOf } from '../../settings/settings.ts'
import type { Finding } from '../finding.ts'
import { PLAIN_PATHS } from './distribution.ts'

/** A flag of containerd's, in every way in which Go takes it. */
const FLAG = /^--?(?:config|c)(?:=(.*))?$/s

/**
 * Whether containerd was started with the file that is read here. It is told only where its process can be looked at, which
 * a container without the node's processes cannot; and by what the paths lead to, since a container may see files elsewhere.
 *
 * @param pid of containerd, as it tells it itself
 * @param proc where processes are found; another directory in tests
 * @returns nothing if it is the same file, or if that cannot be seen
 */
export async function checkConfigInUse(pid: number, configFile: string, proc = '/proc'): Promise<readonly Finding[]> {
  const process = join(proc, String(pid))
  const told = configOf(await readFile(join(process, 'cmdline'), 'utf8').catch(() => ''))
  if (told === undefined) return []
  const used = await identityOf(join(process, 'root', told))
  if (used === undefined || used === (await identityOf(configFile))) return []
  const finding: Finding = {
    id: 'containerd-config-in-use',
    severity: 'error',
    seen: `containerd (process ${pid}) was started with ${told}, and ${configFile} is another file`,
    expected: `${told} read here as well`,
    why: 'what a file says that containerd does not use means nothing: it was not looked at',
    remedy: { text: 'let swarmirror read that file', lines: [`${variableOf('containerd-config')}=${told}`] },
  }
  return [finding]
}

/**
 * Whether this process sees the same files by the same paths as containerd: not if it runs in a container, nor where it cannot
 * look at containerd's process.
 *
 * @param pid of containerd, as it tells it itself
 * @param proc where processes are found; another directory in tests
 */
export async function seesFilesOf(pid: number, proc = '/proc'): Promise<boolean> {
  const process = join(proc, String(pid))
  const [program = ''] = (await readFile(join(process, 'cmdline'), 'utf8').catch(() => '')).split('\0')
  // In another namespace of processes, that number is somebody else's.
  if (!isContainerd(program)) return false
  const [mounts, root] = await viewOf(process)
  const [ownMounts, ownRoot] = await viewOf(join(proc, 'self'))
  return mounts !== undefined && mounts === ownMounts && root !== undefined && root === ownRoot
}

/** What tells the views of two processes apart: their mounts, and where they see the root of them. */
async function viewOf(process: string): Promise<[mounts: string | undefined, root: string | undefined]> {
  const mounts = await readlink(join(process, 'ns', 'mnt')).catch(() => undefined)
  return [mounts, await identityOf(join(process, 'root'))]
}

function isContainerd(program: string): boolean {
  return basename(program).startsWith('containerd')
}

/** The file that a command line of containerd names, or its default; `undefined` for another program, or a relative path. */
function configOf(commandLine: string): string | undefined {
  const [program = '', ...args] = commandLine.split('\0')
  if (!isContainerd(program)) return undefined
  let path = PLAIN_PATHS.configFile
  for (const [at, arg] of args.entries()) {
    const [flag, value] = FLAG.exec(arg) ?? []
    if (flag !== undefined) path = value ?? args[at + 1] ?? path
  }
  return path.startsWith('/') ? path : undefined
}

/** Tells files apart; `undefined` for what is not there, or must not be looked at. */
async function identityOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path)
    return `${dev}:${ino}`
  } catch {
    // Nothing is said of what could not be seen.
    return undefined
  }
}
