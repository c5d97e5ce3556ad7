import { dirname, normalize, resolve } from 'node:path'
import { type Edit, planRemoval } from '../../toml/patch.ts'
import { listOf, parseToml, type TomlEntry, tableAt, withoutByteOrderMark } from '../../toml/toml.ts'
import { type HostsReader, isRefusal } from './files.ts'
import type { HostsCheck } from './mirror-entry.ts'
import type { HostEntry } from './reading.ts'

/** A certificate or key that a hosts.toml names, and what is wrong with it. */
export interface CertificateProblem {
  /** As containerd opens it. */
  readonly path: string
  readonly line: number
  readonly reason: string
  /** Whether containerd sees the problem, too. */
  readonly known: boolean
  /** What takes it out of the hosts.toml, if that is right to do. */
  readonly edits: readonly Edit[] | undefined
}

/**
 * Looks whether the certificates and keys are there that a hosts.toml names. containerd (1.7.24 as tried, later ones as read)
 * opens all of them before it asks the first host: without one, every pull fails that the file counts for.
 *
 * @param hosts those that count: containerd opens no files of others
 * @param sight what this process sees of containerd's files: those in the certs directory, or all
 */
export async function certificateProblems(
  { directory, text, hosts }: { directory: string; text: string; hosts: readonly HostEntry[] },
  sight: Pick<HostsCheck, 'certsDir' | 'seesAll'>,
  files: HostsReader,
): Promise<CertificateProblem[]> {
  const root = parseToml(withoutByteOrderMark(text))
  const names = [...new Set(hosts.map(({ name }) => name))]
  const tables = names.map((name) => ({ table: tableAt(root, 'host', name), where: ['host', name] }))
  const problems: CertificateProblem[] = []
  for (const { table, where } of [...tables, { table: root, where: [] }]) {
    for (const key of ['ca', 'client']) {
      const texts = textsIn(table.get(key)).map(({ value, line }) => ({ path: resolve(directory, value), line }))
      const found = await Promise.all(texts.map(async (at) => ({ ...at, ...(await problemOf(at.path, sight, files)) })))
      // The key as a whole may go only if nothing of it is right.
      const edits = found.every(({ known }) => known) ? planRemoval(text, [...where, key]) : undefined
      for (const { reason, known, ...at } of found)
        if (reason !== undefined) problems.push({ ...at, reason, known, edits })
    }
  }
  return problems
}

/** What is wrong with a file, as far as this process can tell; nothing if it is right. */
async function problemOf(
  path: string,
  { certsDir, seesAll = false }: Pick<HostsCheck, 'certsDir' | 'seesAll'>,
  files: HostsReader,
): Promise<{ readonly reason?: string; readonly known: boolean }> {
  const top = normalize(`${certsDir}/`)
  if (!seesAll && !path.startsWith(top)) {
    return { reason: `is outside of ${certsDir}, and cannot be seen from here`, known: false }
  }
  try {
    if ((await files.read(path)) !== undefined) return { known: false }
  } catch (error) {
    if (!isRefusal(error)) throw error
    // Too long for us is not too long for containerd.
    if (error.code === 'EFBIG') return { known: false }
    if (error.code === 'EINVAL') return { reason: 'is not a file', known: true }
    return { reason: `cannot be read: ${error.message}`, known: false }
  }
  for (let at = path; !seesAll && at.startsWith(top); at = dirname(at)) {
    if (await files.isLink(at)) return { reason: `is behind a link that leads to nothing here: ${at}`, known: false }
  }
  return { reason: 'is not there', known: true }
}

/** A text, or those of a list, or of lists in a list. */
function textsIn(entry: TomlEntry | undefined): { readonly value: string; readonly line: number }[] {
  if (typeof entry?.value === 'string') return [{ value: entry.value, line: entry.line }]
  return listOf(entry)?.flatMap(textsIn) ?? []
}
