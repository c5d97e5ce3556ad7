import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { variableOf } from '../../settings/settings.ts'
import type { ContainerdClient } from '../client/client.ts'
import { ContainerdError } from '../client/error.ts'
import { parseVersion } from '../dialect.ts'
import type { Finding } from '../finding.ts'
import type { ContainerdFacts } from './containerd-facts.ts'

/** The oldest containerd that has CRI's runtime.v1, by which pulls are probed, and that is still known to work. */
const OLDEST = { major: 1, minor: 6 }

/** Most containerd namespaces that are looked into for images. */
const NAMESPACE_LIMIT = 16

export interface EnvironmentOptions {
  readonly socket: string
  readonly namespace: string
  readonly certsDir: string
  /** What writes the hosts.toml files as they should be, in a shell. */
  readonly hostsCommand: string
}

/** What is looked at on this machine. */
export interface EnvironmentDependencies {
  readonly client: Pick<ContainerdClient, 'namespaces' | 'images'>
  /** The names of the images in another namespace. */
  readonly imagesIn: (namespace: string, signal: AbortSignal) => Promise<readonly unknown[]>
}

/** Whether containerd can be talked to, and why not; with it the error, for who must tell a wrong setting from a late start. */
export async function checkSocket(
  client: Pick<ContainerdClient, 'version'>,
  socket: string,
  signal: AbortSignal,
): Promise<{ readonly finding: Finding; readonly error?: ContainerdError }> {
  const rule = {
    id: 'containerd-socket',
    expected: 'containerd answers on its socket',
    why: 'what this node holds, and what it pulls, is known to containerd alone',
  }
  try {
    await client.version(signal)
    return { finding: { ...rule, severity: 'ok', seen: `containerd answers on ${socket}` } }
  } catch (error) {
    if (!(error instanceof ContainerdError)) throw error
    const { seen, text } = SOCKET_PROBLEMS[error.code] ?? OTHER_PROBLEM
    return {
      finding: { ...rule, severity: 'error', seen: `${socket}: ${seen} (${error.message})`, remedy: { text } },
      error,
    }
  }
}

const OTHER_PROBLEM = {
  seen: 'what answers there is not containerd',
  text: 'give the socket of containerd with --containerd-socket',
}
const SOCKET_PROBLEMS: Partial<Record<ContainerdError['code'], { readonly seen: string; readonly text: string }>> = {
  denied: {
    seen: 'this process may not use it',
    text: 'run as root: the socket is containerd’s, and root’s alone',
  },
  unavailable: {
    seen: 'nobody listens there',
    text: 'start containerd, or give its socket with --containerd-socket (in a container: mount its directory)',
  },
  timeout: { seen: 'no answer in time', text: 'look into what keeps containerd from answering (its log, its disk)' },
}

/**
 * What a containerd that answers, and its files, mean for this process.
 *
 * @throws the signal's reason, and what the client throws when containerd goes away
 */
export async function checkEnvironment(
  dependencies: EnvironmentDependencies,
  facts: ContainerdFacts,
  options: EnvironmentOptions,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  return [
    ...versionFindings(facts),
    await namespaceFinding(dependencies, options.namespace, signal),
    await certsFinding(options),
  ]
}

function versionFindings({ version }: ContainerdFacts): Finding[] {
  const parsed = 'value' in version ? parseVersion(version.value) : undefined
  if (parsed === undefined || !('value' in version)) return []
  if (parsed.major > OLDEST.major || (parsed.major === OLDEST.major && parsed.minor >= OLDEST.minor)) return []
  return [
    {
      id: 'containerd-too-old',
      severity: 'error',
      seen: `containerd ${version.value}`,
      expected: `containerd ${OLDEST.major}.${OLDEST.minor} or later`,
      why: 'older ones are not known to ask mirrors as this one expects',
      remedy: { text: 'install a newer containerd' },
    },
  ]
}

async function namespaceFinding(
  { client, imagesIn }: EnvironmentDependencies,
  namespace: string,
  signal: AbortSignal,
): Promise<Finding> {
  const rule = {
    id: 'containerd-namespace',
    expected: `the images of this node in the containerd namespace ${namespace}`,
    why: 'images of other namespaces are neither served nor announced',
  }
  const there = await client.namespaces(signal)
  const own = there.includes(namespace) ? (await client.images(signal)).length : 0
  const others: string[] = []
  for (const name of there.filter((name) => name !== namespace).slice(0, NAMESPACE_LIMIT)) {
    const { length } = await imagesIn(name, signal)
    if (length > 0) others.push(`${name} has ${length}`)
  }
  const also = others.length === 0 ? '' : `; ${others.join(', ')}`
  if (own > 0) return { ...rule, severity: 'ok', seen: `${namespace} has ${own} names of images${also}` }
  const seen = there.includes(namespace) ? `${namespace} has no images` : `there is no namespace ${namespace}`
  if (others.length === 0) return { ...rule, severity: 'ok', seen: `${seen} yet, nor has another` }
  const [first = ''] = others
  return {
    ...rule,
    // Kubernetes makes its namespace with the first pull; any other one that is not there was meant to be another.
    severity: there.includes(namespace) || namespace === 'k8s.io' ? 'warning' : 'error',
    seen: `${seen}${also}`,
    remedy: {
      text: 'mirror the namespace that has the images, unless this node is new and they come yet',
      lines: [`${variableOf('containerd-namespace')}=${first.split(' ', 1)[0]}`],
    },
  }
}

/** By which way content is read. */
export async function checkContent(
  client: Pick<ContainerdClient, 'contentPlacement' | 'listContent'>,
  contentRoot: string | undefined,
  signal: AbortSignal,
): Promise<Finding> {
  const rule = {
    id: 'containerd-content',
    expected: 'the files of containerd’s content store readable',
    why: 'through the socket content is read ten times slower, and costs containerd as much again',
  }
  const root = contentRoot ?? (await client.contentPlacement(signal)).root
  if (root === undefined) {
    const seen = 'containerd does not say where its content is: it is read through the socket'
    const remedy = { text: 'give the root of its content store with --containerd-content' }
    return { ...rule, severity: 'warning', seen, remedy }
  }
  try {
    // Made by containerd with the first pull, as its parent is.
    await access(join(root, 'ingest'), constants.R_OK | constants.X_OK)
    return { ...rule, severity: 'ok', seen: `content is read from the files in ${root}` }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && !(await hasContent(client, signal))) {
      return { ...rule, severity: 'unknown', seen: `there is no ${root} yet: containerd makes it with the first pull` }
    }
    return {
      ...rule,
      severity: 'warning',
      seen: `content is read through the socket: ${(error as Error).message}`,
      remedy: {
        text: 'run as root, and let this process see the directory (in a container: mount it, and give --containerd-content)',
      },
    }
  }
}

async function hasContent(client: Pick<ContainerdClient, 'listContent'>, signal: AbortSignal): Promise<boolean> {
  for await (const _ of client.listContent(signal)) return true
  return false
}

async function certsFinding({ certsDir, hostsCommand }: EnvironmentOptions): Promise<Finding> {
  const rule = {
    id: 'certs-dir',
    expected: `${certsDir} writable`,
    why: 'the command `hosts` writes there, and so does the probe',
  }
  try {
    if (!(await stat(certsDir)).isDirectory()) {
      const remedy = { text: 'give the directory of the hosts.toml files with --certs-dir' }
      return { ...rule, severity: 'error', seen: `${certsDir} is no directory`, remedy }
    }
    await access(certsDir, constants.R_OK | constants.W_OK | constants.X_OK)
    return { ...rule, severity: 'ok', seen: `${certsDir} is writable` }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') {
      const remedy = { text: 'let swarmirror make it', command: hostsCommand }
      return { ...rule, severity: 'warning', seen: `${certsDir} is not there`, remedy }
    }
    return {
      ...rule,
      severity: 'ok',
      seen: `${certsDir} is not writable by this process, which does not need it: ${message}`,
    }
  }
}
