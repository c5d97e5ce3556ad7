import { constants, readdirSync, statSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { isProbeRegistry } from '../probe-name.ts'

/** Everybody may read, and root may write: as containerd's packages make theirs. */
const FILE_MODE = 0o644

/** The longest file to read, in bytes. A hosts.toml has some hundred, containerd's configuration some ten thousand. */
const SIZE_LIMIT = 1 << 20

/** This machine's file system: reading hosts.toml files, and the steps of writing them. */
export const HOSTS_FILES = {
  read: (path: string) => unlessMissing(readRegularFile(path)),

  /** The names in a directory, and whether each is a directory or a link to one. */
  async list(path: string): Promise<readonly { readonly name: string; readonly directory: boolean }[] | undefined> {
    const entries = await unlessMissing(fs.readdir(path, { withFileTypes: true }))
    const listed = entries?.map(async (entry) => {
      const led = entry.isSymbolicLink() ? await unlessMissing(fs.stat(join(path, entry.name))) : entry
      return { name: entry.name, directory: led?.isDirectory() ?? false }
    })
    return listed && (await Promise.all(listed))
  },

  /** Where a path leads through links. */
  real: (path: string) => unlessMissing(fs.realpath(path)),

  isLink: async (path: string) => (await unlessMissing(fs.lstat(path)))?.isSymbolicLink() ?? false,

  /** Why files cannot be made in a directory; `undefined` if they can. */
  unwritable: (directory: string): Promise<string | undefined> =>
    fs.access(directory, constants.W_OK | constants.X_OK).then(
      () => undefined,
      (error: Error) => error.message,
    ),

  /** Makes a directory and those above it, as far as they are not there. */
  async makeDirectory(path: string): Promise<void> {
    await fs.mkdir(path, { recursive: true })
  },

  /** Makes a new file with these bytes and another file's mode and owner. It is on the disk when this resolves. */
  async create(path: string, bytes: Uint8Array, like?: string): Promise<void> {
    const model = like === undefined ? undefined : await fs.stat(like)
    const file = await fs.open(path, 'wx', 0o600)
    try {
      await file.writeFile(bytes)
      const own = await file.stat()
      const sameOwner = model === undefined || (own.uid === model.uid && own.gid === model.gid)
      if (!sameOwner) await fs.chown(path, model.uid, model.gid)
      await fs.chmod(path, model === undefined ? FILE_MODE : model.mode & 0o7777)
      await file.sync()
    } finally {
      await file.close()
    }
  },

  rename: (from: string, to: string): Promise<void> => fs.rename(from, to),
  unlink: (path: string): Promise<void> => fs.unlink(path),

  /** Removes a directory, unless something is in it, or it is a link or a mount. */
  async removeEmptyDirectory(path: string): Promise<void> {
    await fs.rmdir(path).catch((error: NodeJS.ErrnoException) => {
      if (!['ENOTEMPTY', 'ENOTDIR', 'EBUSY'].includes(error.code ?? '')) throw error
    })
  },
}

export type HostsFiles = typeof HOSTS_FILES

/** Reads hosts.toml files. Returns `undefined` for what is not there, and throws whatever else the file system refuses. */
export type HostsReader = Pick<HostsFiles, 'read' | 'list' | 'real'>

/**
 * Reads a file that somebody else put there, if it is a regular file: a pipe or a device may never end.
 *
 * @throws the system's error; EINVAL for anything but a file, EFBIG for more than {@link SIZE_LIMIT}
 */
async function readRegularFile(path: string): Promise<Buffer> {
  // Does not wait for somebody to write into a pipe.
  const file = await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const found = await file.stat()
    if (!found.isFile()) throw refusal('EINVAL', `${path} is not a file`)
    if (found.size > SIZE_LIMIT) throw refusal('EFBIG', `${path} has more than ${SIZE_LIMIT} bytes`)
    return await file.readFile()
  } finally {
    await file.close()
  }
}

function refusal(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${message}`), { code })
}

/** Whether the file system refused something for another reason than that it does not exist: `EACCES`, `ENOTDIR`, `ELOOP`. */
export function isRefusal(error: unknown): error is NodeJS.ErrnoException {
  const { code } = error as NodeJS.ErrnoException
  return error instanceof Error && typeof code === 'string' && /^E[A-Z]+$/.test(code)
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Every path that was read or listed, even a missing one, with its signature from before the first look. */
export type Looked = ReadonlyMap<string, string>

/** A reader that remembers its paths, so that they can be watched. */
export function rememberingReader(reader: HostsReader): { readonly reader: HostsReader; readonly looked: Looked } {
  const looked = new Map<string, string>()
  /** Takes the signature first, so that anything that changes during the reading or the rest of the check counts as a change. */
  const noted =
    <T>(read: (path: string) => Promise<T>) =>
    async (path: string): Promise<T> => {
      const signature = signatureOf(path)
      if (!looked.has(path)) looked.set(path, signature)
      return await read(path)
    }
  const { read, list, real } = reader
  return { looked, reader: { read: noted(read), list: noted(list), real: noted(real) } }
}

/** Whether any of the paths has changed since that look. */
export function hasChanged(looked: Looked): boolean {
  return [...looked].some(([path, signature]) => signatureOf(path) !== signature)
}

/**
 * The signature of a path: another answer means that the path has changed. A file's signature is its times and identity. A
 * directory's is only its names, since its times also change with entries that come and go in a moment.
 *
 * Synchronous: some dozen paths take 0.2 ms in all every few seconds, while with promises each of them wakes up two threads.
 */
function signatureOf(path: string): string {
  try {
    const found = statSync(path, { throwIfNoEntry: false })
    if (found === undefined) return 'ENOENT'
    if (!found.isDirectory()) return `${found.ino} ${found.size} ${found.mtimeMs} ${found.ctimeMs}`
    // Probes of this process and of others come and go, with a dot before their names during writing.
    const names = readdirSync(path).filter((name) => !isProbeRegistry(name.replace(/^\./, '')))
    return names.sort().join('/')
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}
