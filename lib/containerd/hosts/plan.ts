import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { TomlError } from '../../toml/toml.ts'
import { NEWEST } from '../dialect.ts'
import { putIn, takeOut, verifyEdit } from './edit.ts'
import { HostsError, isUrl } from './endpoint.ts'
import { type HostsFiles, type HostsReader, isRefusal } from './files.ts'
import { DEFAULT_NAMESPACE, directoriesFor, HOSTS_FILE, textIn } from './look.ts'
import { type HostsCheck, isRight } from './mirror-entry.ts'
import { readHosts } from './reading.ts'
import { hasCertificates } from './upstream-hosts.ts'

/** Begins the name of a file that is being written. containerd looks for none of that name. */
const STAGED = '.swarmirror-'

/** The change of one hosts.toml. */
export interface Change {
  /** The path that containerd opens. */
  readonly path: string
  /** The file itself, if `path` is a link. */
  readonly target: string
  readonly before: string | undefined
  /** `undefined` removes the file. */
  readonly after: string | undefined
  readonly action: 'create' | 'update' | 'keep' | 'take-out' | 'delete'
  /** What a person should know: sentences without a full stop. */
  readonly notes: readonly string[]
}

export interface Plan {
  readonly changes: readonly Change[]
  /** Files to leave alone, and why. */
  readonly refusals: readonly { readonly path: string; readonly reason: string }[]
}

export interface HostsTarget extends Pick<HostsCheck, 'certsDir' | 'mirror'> {
  /** `_default` is one, too. */
  readonly registries: readonly string[]
}

/**
 * Looks at the hosts.toml of each registry and decides what to do. It changes nothing.
 *
 * @throws what the file system refuses in the certs directory itself
 */
export async function planWrite(target: HostsTarget, files: HostsFiles): Promise<Plan> {
  const { certsDir, registries } = target
  const plans: FilePlans = new Map()
  for (const registry of registries) {
    let directory = join(certsDir, registry)
    for (const form of directoriesFor(registry, certsDir).reverse()) {
      if ((await files.real(form)) !== undefined) directory = form
    }
    plans.set(directory, () => planFile(registry, directory, target, files))
  }
  return await collect(plans, files)
}

/**
 * Looks for our entries and decides how to remove them.
 *
 * @param registries only these; by default all that have a directory
 * @throws what the file system refuses in the certs directory itself
 */
export async function planRemove(
  { certsDir, registries }: { readonly certsDir: string; readonly registries?: readonly string[] | undefined },
  files: HostsFiles,
): Promise<Plan> {
  const listed = (await files.list(certsDir)) ?? []
  const all = listed.filter(({ name, directory }) => directory && !name.startsWith('.'))
  const directories =
    registries?.flatMap((registry) => directoriesFor(registry, certsDir)) ?? all.map(({ name }) => join(certsDir, name))
  const plans = directories.sort().map((directory) => [directory, () => planFileRemoval(directory, files)] as const)
  const plan = await collect(new Map(plans), files)
  return { ...plan, changes: plan.changes.filter(({ action }) => action !== 'keep') }
}

/** What plans the file in each directory. */
type FilePlans = Map<string, () => Promise<Change>>

/** Plans one file after the other. A file that must not or cannot be changed becomes a refusal, and the rest goes on. */
async function collect(plans: Readonly<FilePlans>, files: HostsFiles): Promise<Plan> {
  const changes: Change[] = []
  const refusals: { path: string; reason: string }[] = []
  for (const [directory, plan] of plans) {
    try {
      const change = await plan()
      if (change.action !== 'keep') await refuseReadOnly(change.target, files)
      if (!changes.some(({ target }) => target === change.target)) changes.push(change)
    } catch (error) {
      if (!(error instanceof TomlError || isRefusal(error))) throw error
      refusals.push({ path: join(directory, HOSTS_FILE), reason: error.message })
    }
  }
  return { changes, refusals }
}

/** @throws {HostsError} if the file cannot be written */
async function refuseReadOnly(target: string, files: HostsFiles): Promise<void> {
  let directory = dirname(target)
  while ((await files.real(directory)) === undefined) directory = dirname(directory)
  const problem = await files.unwritable(directory)
  if (problem !== undefined) throw new HostsError(`${directory} cannot be written: ${problem}`)
}

/** @param directory the one that counts for the registry, or that must be made */
async function planFile(
  registry: string,
  directory: string,
  { certsDir, mirror }: HostsTarget,
  files: HostsFiles,
): Promise<Change> {
  if (registry !== DEFAULT_NAMESPACE && (await files.real(directory)) === undefined) {
    await refuseShadowing(registry, directory, certsDir, files)
  }
  const unchanged = await keep(directory, files)
  const { before } = unchanged
  const own = takeOut(before ?? '')
  const base = own?.rest ?? before ?? ''
  const reading = readHosts(base, NEWEST)
  const hosts = reading.kind === 'hosts' ? reading.hosts : []
  if (own === undefined && hosts[0] !== undefined && isRight(hosts[0], mirror)) {
    return { ...unchanged, notes: ['it names the mirror already, though swarmirror did not write it'] }
  }
  // What containerd does not read must not begin to count because we write into it.
  if (reading.kind === 'discarded') throw new HostsError(reading.reason, reading.line, reading.column)
  if (hosts.length === 0 && (await hasCertificates(directory, files))) {
    throw new HostsError(
      'certificates (*.crt, *.cert) are beside it, which containerd takes by their names only without a valid hosts.toml; name them with `ca` and `client` in a [host] table for the registry',
    )
  }
  const after = putIn(base, mirror, own?.isNewFile ?? before === undefined)
  verifyEdit(base, after, mirror)
  if (after === before) return unchanged
  const others = hosts.filter(({ name }) => !isUrl(name, mirror.url)).map(({ name }) => name)
  const notes = others.length === 0 ? [] : [`containerd asks ${others.join(', ')} after the mirror`]
  const action = before === undefined ? 'create' : 'update'
  return { ...unchanged, after, action, notes }
}

/**
 * A file that stays as it is.
 *
 * @throws {HostsError} if a change would lose something
 */
async function keep(directory: string, files: HostsFiles): Promise<Change> {
  const path = join(directory, HOSTS_FILE)
  const bytes = await files.read(path)
  const real = await files.real(directory)
  const target = (await files.isLink(path)) ? await files.real(path) : join(real ?? directory, HOSTS_FILE)
  if (target === undefined) throw new HostsError('a link that leads to nothing: make what it leads to reachable')
  if (bytes !== undefined && !isUtf8(bytes)) throw new HostsError('not UTF-8, which TOML demands')
  const text = bytes?.toString('utf8')
  return { path, target, before: text, after: text, action: 'keep', notes: [] }
}

/** A new directory takes a registry away from `_default`, and with it from whatever others wrote there. */
async function refuseShadowing(registry: string, directory: string, certsDir: string, files: HostsReader) {
  const general = join(certsDir, DEFAULT_NAMESPACE)
  const text = await textIn(general, files)
  const others = text === '' ? await hasCertificates(general, files) : (takeOut(text)?.rest ?? text) !== ''
  if (!others) return
  throw new HostsError(
    `${registry} has no directory, so what others wrote in ${general} counts for it, and ${directory} would take that away; create that directory with a hosts.toml for this registry, or leave out --registries`,
  )
}

async function planFileRemoval(directory: string, files: HostsFiles): Promise<Change> {
  const unchanged = await keep(directory, files)
  const { before } = unchanged
  const own = takeOut(before ?? '')
  if (own === undefined) return unchanged
  if (own.isNewFile && own.rest === '') return { ...unchanged, after: undefined, action: 'delete' }
  return { ...unchanged, after: own.rest, action: 'take-out' }
}

/** Makes changes, and tells of each why it could not be made. One that cannot be made does not keep others from it. */
export async function* applyChanges(changes: readonly Change[], files: HostsFiles) {
  for (const change of changes) {
    let problem: string | undefined
    try {
      await applyChange(change, files)
    } catch (error) {
      if (!(error instanceof HostsError || isRefusal(error))) throw error
      problem = error.message
    }
    yield { change, problem }
  }
}

/**
 * Makes a change. The file is replaced by a rename, so that containerd and a crash see the old one or the new one.
 *
 * @throws {HostsError} if somebody changed the file meanwhile; what the file system refuses
 */
export async function applyChange({ path, target, before, after, action }: Change, files: HostsFiles): Promise<void> {
  if (action === 'keep') return
  if ((await files.read(target))?.toString('utf8') !== before) throw new HostsError('somebody changed it meanwhile')
  const directory = dirname(target)
  await files.makeDirectory(directory)
  // What a killed write left.
  for (const { name } of (await files.list(directory)) ?? [])
    if (name.startsWith(STAGED)) await files.unlink(join(directory, name))
  if (after === undefined) {
    await files.unlink(target)
    // An empty directory would keep the registry from `_default`.
    await files.removeEmptyDirectory(dirname(path))
    return
  }
  const staged = join(directory, `${STAGED}${randomBytes(6).toString('hex')}`)
  try {
    await files.create(staged, Buffer.from(after, 'utf8'), before === undefined ? undefined : target)
    await files.rename(staged, target)
  } catch (error) {
    // Whether or not this succeeds, the first error says what is wrong, and the next write removes what is left.
    await files.unlink(staged).catch(() => undefined)
    throw error
  }
}
