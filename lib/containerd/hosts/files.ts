import { constants } from 'node:fs'
import {
  access,
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rmdir,
  stat,
  unlink,
} from 'node:fs/promises'
import { join } from 'node:path'

/** Whose a file is, and who may do what. */
export interface Ownership {
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** The look at a file system that reading hosts.toml files needs. What is not there is `undefined`; other failures throw. */
export interface HostsReader {
  read(path: string): Promise<Buffer | undefined>
  /** Names in a directory, with those of directories told apart. */
  list(path: string): Promise<readonly { readonly name: string; readonly directory: boolean }[] | undefined>
  /** What a path leads to, through links. */
  real(path: string): Promise<string | undefined>
  isLink(path: string): Promise<boolean>
}

/** The steps that writing is made of. Each is one call to the system, but for `create`. */
export interface HostsFiles extends HostsReader {
  ownership(path: string): Promise<Ownership>
  /** Why files cannot be made in a directory; `undefined` if they can. */
  unwritable(directory: string): Promise<string | undefined>
  /** Makes a directory that was not there, whose parent is. */
  makeDirectory(path: string): Promise<void>
  /** Makes a file that was not there, with these bytes, on the disk when it resolves. */
  create(path: string, bytes: Uint8Array, ownership: Ownership | undefined): Promise<void>
  /** Gives a file a second name that was not there, or a copy where the file system has no such names. */
  link(from: string, to: string): Promise<void>
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  removeDirectory(path: string): Promise<void>
  /** Brings names that were made or changed in a directory to the disk. */
  syncDirectory(path: string): Promise<void>
}

/** Everybody may read and enter, root may write: as containerd's packages make theirs. */
const DIRECTORY_MODE = 0o755
const FILE_MODE = 0o644

/** The file system of this machine. */
export const HOSTS_FILES: HostsFiles = {
  read: (path) => unlessMissing(readRegularFile(path)),
  async list(path) {
    const entries = await unlessMissing(readdir(path, { withFileTypes: true }))
    if (entries === undefined) return undefined
    return await Promise.all(
      entries.map(async (entry) => {
        const { name } = entry
        const directory = entry.isSymbolicLink() ? await leadsToDirectory(join(path, name)) : entry.isDirectory()
        return { name, directory }
      }),
    )
  },
  real: (path) => unlessMissing(realpath(path)),
  ownership: ownershipOf,
  isLink: async (path) => (await unlessMissing(lstat(path)))?.isSymbolicLink() ?? false,
  async unwritable(directory) {
    try {
      await access(directory, constants.W_OK | constants.X_OK)
      return undefined
    } catch (error) {
      return (error as Error).message
    }
  },
  async makeDirectory(path) {
    await mkdir(path)
    // Whatever the umask is.
    await chmod(path, DIRECTORY_MODE)
  },
  create,
  async link(from, to) {
    try {
      await link(from, to)
    } catch (error) {
      if (!NO_LINKS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
      await create(to, await readFile(from), await ownershipOf(from))
    }
  },
  rename,
  unlink,
  removeDirectory: (path) => rmdir(path),
  async syncDirectory(path) {
    const directory = await open(path, 'r')
    try {
      await directory.sync()
    } finally {
      await directory.close()
    }
  },
}

/** Longest file that is read, in bytes. A hosts.toml has some hundred, containerd's configuration some ten thousand. */
const SIZE_LIMIT = 1 << 20

/**
 * Reads a file that somebody else put there, and only what is one: a pipe would never end, and a device neither.
 *
 * @throws what the system says; EINVAL for what is no file, EFBIG for more than {@link SIZE_LIMIT}
 */
export async function readRegularFile(path: string): Promise<Buffer> {
  // Without waiting for somebody to write into a pipe.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const found = await file.stat()
    if (!found.isFile()) throw refusal('EINVAL', `${path} is no file`)
    if (found.size > SIZE_LIMIT) throw refusal('EFBIG', `${path} has more than ${SIZE_LIMIT} bytes`)
    return await file.readFile()
  } finally {
    await file.close()
  }
}

function refusal(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${message}`), { code })
}

/** System errors of file systems without second names for a file. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])

async function ownershipOf(path: string): Promise<Ownership> {
  const { mode, uid, gid } = await stat(path)
  return { mode: mode & 0o7777, uid, gid }
}

async function create(path: string, bytes: Uint8Array, ownership: Ownership | undefined): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(bytes)
    if (ownership !== undefined) {
      const own = await file.stat()
      if (own.uid !== ownership.uid || own.gid !== ownership.gid) await chown(path, ownership.uid, ownership.gid)
    }
    await chmod(path, ownership?.mode ?? FILE_MODE)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Whether the file system refused something, other than by saying that it is not there: `EACCES`, `ENOTDIR`, `ELOOP`. */
export function isRefusal(error: unknown): error is NodeJS.ErrnoException {
  const { code } = error as NodeJS.ErrnoException
  return error instanceof Error && typeof code === 'string' && /^E[A-Z]+$/.test(code)
}

async function leadsToDirectory(path: string): Promise<boolean> {
  return (await unlessMissing(stat(path)))?.isDirectory() ?? false
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
