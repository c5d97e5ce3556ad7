import { constants, existsSync } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { variableOf } from '../../settings/settings.ts'
import type { ContainerdClient } from '../client/client.ts'
import type { ContainerdError } from '../client/error.ts'
import { isSince, parseVersion, type Version } from '../dialect.ts'
import { type Fact, isUnreadable, type Rule, rule } from '../rule.ts'
import { blobPath } from '../store/files.ts'

/** The oldest containerd that is known to work and offers CRI's runtime.v1, through which the probe pulls. */
const OLDEST: Version = [1, 6, 0]
/** The most containerd namespaces to search for images. */
const NAMESPACE_LIMIT = 16

/** What a check saw of this machine, and of containerd as a service there. Anything not asked is `undefined`. */
export interface MachineView {
  readonly socket: { readonly path: string; readonly refusal: ContainerdError | undefined }
  readonly version: Fact<string>
  readonly images: Fact<Awaited<ReturnType<typeof countImages>>> | undefined
  readonly certsDir: Awaited<ReturnType<typeof lookAtCertsDirectory>>
  readonly content: Fact<ContentPlace> | undefined
}

interface ContentPlace {
  /** The root of containerd's content store; `undefined` if containerd does not say. */
  readonly root: string | undefined
  /** Why its files cannot be read; `undefined` if they can. */
  readonly problem?: string | undefined
  /** Whether the root does not exist because nothing was ever pulled: containerd 2.x makes it at the first pull. */
  readonly fresh?: boolean
}

/** Counts the images of each existing namespace, the mirrored one and others. */
export async function countImages(
  containerd: { in(namespace: string): Pick<ContainerdClient, 'namespaces' | 'images'> },
  namespace: string,
  signal: AbortSignal,
) {
  const there = await containerd.in(namespace).namespaces(signal)
  const looked = new Set([...there.filter((name) => name === namespace), ...there.slice(0, NAMESPACE_LIMIT)])
  const counts = new Map<string, number>()
  for (const name of looked) counts.set(name, (await containerd.in(name).images(signal)).length)
  return { namespace, counts }
}

/**
 * Finds out whether this process can write there; `problem` says why not.
 *
 * @param hostsCommand the shell command that writes the correct hosts.toml files
 */
export async function lookAtCertsDirectory(path: string, hostsCommand: string) {
  // With a dot at its end, the path can only lead to a directory.
  return await access(`${path}/.`, constants.R_OK | constants.W_OK | constants.X_OK).then(
    () => ({ path, hostsCommand, problem: undefined }),
    (problem: NodeJS.ErrnoException) => ({ path, hostsCommand, problem }),
  )
}

export async function lookAtContent(
  client: Pick<ContainerdClient, 'contentRoot' | 'contentInfo' | 'listContent'>,
  contentRoot: string | undefined,
  signal: AbortSignal,
): Promise<ContentPlace> {
  const root = contentRoot ?? (await client.contentRoot(signal))
  if (root === undefined) return { root }
  const missing = await missingFile(client, root, signal)
  try {
    await access(join(root, 'ingest'), constants.R_OK | constants.X_OK)
    return { root, problem: missing }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return { root, problem: message, fresh: code === 'ENOENT' && missing === undefined }
  }
}

/** Why this cannot be where containerd's files are: it has content, and no file of it is here. */
async function missingFile(
  client: Pick<ContainerdClient, 'contentInfo' | 'listContent'>,
  root: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  let missing: string | undefined
  for await (const { digest } of client.listContent(signal)) {
    const path = blobPath(root, digest)
    // One is enough.
    if (existsSync(path)) return undefined
    // It may have been collected since it was listed.
    if (missing === undefined && (await client.contentInfo(digest, signal)) !== undefined) {
      missing = `containerd has ${digest}, and ${path} is not there`
    }
  }
  return missing
}

/** The meaning of an error of containerd's socket, and what to do about it. */
const SOCKET_PROBLEMS: Partial<Record<ContainerdError['code'], readonly [seen: string, remedy: string]>> = {
  denied: ['this process may not use it', 'run as root: only root may use the socket of containerd'],
  unavailable: [
    'nobody listens there',
    'start containerd, or name its socket with --containerd-socket (in a container: mount its directory)',
  ],
  timeout: ['no answer in time', 'find out what keeps containerd from answering (its log, its disk)'],
}
const OTHER_PROBLEM = ['what answers there is not containerd', 'name its socket with --containerd-socket'] as const
const SEE_CONTENT =
  'run as root, and let this process see the directory (in a container: mount it, and name it with --containerd-content)'

export const MACHINE_RULES: readonly Rule<MachineView>[] = [
  rule({
    id: 'containerd-socket',
    reads: ({ socket }: MachineView) => socket,
    judges({ path, refusal }) {
      if (refusal === undefined) return { severity: 'ok', seen: `containerd answers on ${path}` }
      const [seen, text] = SOCKET_PROBLEMS[refusal.code] ?? OTHER_PROBLEM
      return { severity: 'error', seen: `${path}: ${seen} (${refusal.message})`, remedy: { text } }
    },
    expected: 'containerd answers on its socket',
    why: 'only containerd knows what this node holds and pulls',
  }),

  rule({
    id: 'containerd-too-old',
    reads: ({ version }: MachineView) => (isUnreadable(version) ? undefined : version),
    judges(version) {
      const isOld = !isSince(parseVersion(version) ?? OLDEST, OLDEST)
      return isOld ? { severity: 'error', seen: `containerd ${version}` } : []
    },
    expected: `containerd ${OLDEST.slice(0, 2).join('.')} or later`,
    why: 'older versions may not ask mirrors in the way that swarmirror expects',
    remedy: () => ({ text: 'install a newer containerd' }),
  }),

  rule({
    id: 'containerd-namespace',
    reads: ({ images }: MachineView) => images,
    judges({ namespace, counts }) {
      const own = counts.get(namespace)
      const others = [...counts].filter(([name, count]) => name !== namespace && count > 0)
      const [first] = others
      const also = first === undefined ? '' : `; ${others.map(([name, count]) => `${name} has ${count}`).join(', ')}`
      if (own !== undefined && own > 0) return { severity: 'ok', seen: `${namespace} has ${own} image names${also}` }
      const seen = own === undefined ? `there is no namespace ${namespace}` : `${namespace} has no images`
      if (first === undefined) return { severity: 'ok', seen: `${seen} yet, and no other has any` }
      const text = 'mirror the namespace that has the images, unless this node is new and its images are still to come'
      const remedy = { text, lines: [`${variableOf('containerd-namespace')}=${first[0]}`] }
      // Kubernetes makes its namespace with the first pull; any other name that does not exist must be a mistake.
      const plausible = own !== undefined || namespace === 'k8s.io'
      return { severity: plausible ? 'warning' : 'error', seen: `${seen}${also}`, remedy }
    },
    expected: 'the images of this node in the containerd namespace that is mirrored',
    why: 'images of other namespaces are neither served nor announced',
  }),

  rule({
    id: 'certs-dir',
    reads: ({ certsDir }: MachineView) => certsDir,
    judges({ path, problem, hostsCommand }) {
      if (problem === undefined) return { severity: 'ok', seen: `${path} is writable` }
      if (problem.code === 'ENOENT') {
        const remedy = { text: 'let swarmirror create it', command: hostsCommand }
        return { severity: 'warning', seen: `${path} is not there`, remedy }
      }
      if (problem.code === 'ENOTDIR') {
        const remedy = { text: 'name the directory of the hosts.toml files with --certs-dir' }
        return { severity: 'error', seen: `${path} is not a directory`, remedy }
      }
      return {
        severity: 'ok',
        seen: `${path} is not writable by this process, which can do without that: ${problem.message}`,
      }
    },
    expected: 'a writable directory of the hosts.toml files',
    why: 'the command `hosts` writes there, and so does the probe',
  }),

  rule({
    id: 'containerd-content',
    reads: ({ content }: MachineView) => content,
    judges({ root, problem, fresh }) {
      if (root === undefined) {
        const seen = 'containerd does not say where its content is, so it is read through the socket'
        const remedy = { text: 'name the root of its content store with --containerd-content' }
        return { severity: 'warning', seen, remedy }
      }
      if (problem === undefined) return { severity: 'ok', seen: `content is read from the files in ${root}` }
      const first = 'containerd makes it with the first pull'
      if (fresh) return { severity: 'unknown', seen: `there is no ${root} yet: ${first}` }
      return { severity: 'warning', seen: `content is read through the socket: ${problem}` }
    },
    expected: 'readable files in containerd’s content store',
    why: 'reading content through the socket is ten times slower, and costs containerd as much again',
    remedy: (_, { severity }) => (severity === 'warning' ? { text: SEE_CONTENT } : undefined),
  }),
]
