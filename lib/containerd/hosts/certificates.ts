import { dirname, join, normalize } from 'node:path'
import { planRemoval } from '../../toml/patch.ts'
import { parseToml, type TomlEntry, type TomlTable, tableOf, withoutByteOrderMark } from '../../toml/toml.ts'
import type { Finding } from '../finding.ts'
import type { HostsCheck, Looked } from './check.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { HOSTS_FILE } from './look.ts'

/** A certificate, or its key, as a hosts.toml names it. */
interface NamedFile {
  /** As containerd opens it. */
  readonly path: string
  readonly line: number
  /** Names of the tables and the key that it stands in. */
  readonly where: readonly string[]
}

/**
 * Whether the certificates and keys are there that the hosts of a hosts.toml need. containerd (1.7.24 as tried, later ones as
 * read) opens all of them before it asks the first host: without one, every pull fails that the file counts for.
 */
export async function certificateFindings(
  directory: string,
  looked: Looked,
  check: HostsCheck,
  files: HostsReader,
): Promise<Finding[]> {
  if (looked.kind !== 'hosts') return []
  const findings: Finding[] = []
  const named = filesNamedIn(looked.text, directory, new Set(looked.hosts.map(({ name }) => name)))
  const problems = await Promise.all(named.map((file) => problemOf(file, check, files)))
  for (const [at, file] of named.entries()) {
    const problem = problems[at]
    if (problem === undefined) continue
    // The key as a whole may go only if nothing of it is right.
    const all = named.every((other, at) => other.where !== file.where || problems[at]?.known === true)
    findings.push(
      finding(join(directory, HOSTS_FILE), file, problem, all ? planRemoval(looked.text, file.where) : undefined),
    )
  }
  return findings
}

interface Problem {
  readonly reason: string
  /** Whether containerd sees it, too. */
  readonly known: boolean
}

function finding(path: string, { path: file, line }: NamedFile, { reason, known }: Problem, edits: Edits): Finding {
  const rule = { id: 'hosts-toml-certificate', expected: `the certificates and keys that ${path} names` }
  const seen = `${path}, line ${line}: ${file} ${reason}`
  if (!known) {
    const why = 'without one of them containerd fails every pull that the file counts for'
    return { ...rule, severity: 'unknown', seen, why, remedy: { text: `look on the node whether ${file} is there` } }
  }
  return {
    ...rule,
    severity: 'error',
    seen,
    why: 'containerd fails every pull that the file counts for, and asks nobody',
    remedy: { text: `put it there, or take it out of the file`, file: path, ...(edits === undefined ? {} : { edits }) },
  }
}

type Edits = ReturnType<typeof planRemoval>

/** What is wrong with a file, as far as this process can tell; `undefined` if nothing is. */
async function problemOf({ path }: NamedFile, check: HostsCheck, files: HostsReader): Promise<Problem | undefined> {
  const top = normalize(`${check.certsDir}/`)
  const within = path.startsWith(top)
  const seesAll = check.seesAll ?? false
  if (!within && !seesAll)
    return { reason: `is outside of ${check.certsDir}, and not to be seen from here`, known: false }
  try {
    if ((await files.read(path)) !== undefined) return undefined
  } catch (error) {
    if (!isRefusal(error)) throw error
    // Too long for us is not too long for containerd.
    if (error.code === 'EFBIG') return undefined
    if (error.code === 'EINVAL') return { reason: 'is no file', known: true }
    return { reason: `cannot be read: ${error.message}`, known: false }
  }
  if (seesAll) return { reason: 'is not there', known: true }
  for (let at = path; at.startsWith(top); at = dirname(at)) {
    if (await files.isLink(at)) return { reason: `is behind a link that leads to nothing here: ${at}`, known: false }
  }
  return { reason: 'is not there', known: true }
}

/** In the order in which containerd opens them: those of the hosts, and those of the registry itself. */
function filesNamedIn(text: string, directory: string, counting: ReadonlySet<string>): NamedFile[] {
  const root = parseToml(withoutByteOrderMark(text))
  const hosts = [...(tableOf(root.get('host')?.value) ?? [])].filter(([name]) => counting.has(name))
  return [
    ...hosts.flatMap(([name, { value }]) => filesNamedBy(tableOf(value), ['host', name], directory)),
    ...filesNamedBy(root, [], directory),
  ]
}

function filesNamedBy(table: TomlTable | undefined, parents: readonly string[], directory: string): NamedFile[] {
  return ['ca', 'client'].flatMap((key) => {
    const entry = table?.get(key)
    const where = [...parents, key]
    return entry === undefined ? [] : textsIn(entry).map(({ value, line }) => ({ path: opened(value), line, where }))
  })

  function opened(path: string): string {
    return path.startsWith('/') ? path : join(directory, path)
  }
}

/** A text, or those of a list, or of lists in a list. */
function textsIn({ value, line }: TomlEntry): { readonly value: string; readonly line: number }[] {
  if (typeof value === 'string') return [{ value, line }]
  return Array.isArray(value) ? (value as readonly TomlEntry[]).flatMap(textsIn) : []
}
