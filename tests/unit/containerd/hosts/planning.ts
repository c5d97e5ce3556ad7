import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { HOSTS_FILES } from '../../../../lib/containerd/hosts/files.ts'
import { mirrorEntryFor } from '../../../../lib/containerd/hosts/mirror-entry.ts'
import { applyChange, type Plan, planWrite } from '../../../../lib/containerd/hosts/plan.ts'

export const LISTEN = { host: '127.0.0.1', port: 5000 }
export const MIRROR = 'http://127.0.0.1:5000'

export interface Options {
  readonly port?: number
  readonly resolve?: 'fallback' | 'upstream'
}

/** The plan for a directory of this machine. */
export function plan(certsDir: string, registries: readonly string[], options: Options = {}): Promise<Plan> {
  const { port = LISTEN.port, resolve = 'fallback' } = options
  return planWrite({ certsDir, registries, mirror: mirrorEntryFor({ ...LISTEN, port }, resolve) }, HOSTS_FILES)
}

/** Why the plan refuses its one file. */
export async function refusal(certsDir: string, registries: readonly string[], options: Options = {}): Promise<string> {
  const { refusals } = await plan(certsDir, registries, options)
  assert.equal(refusals.length, 1)
  return refusals[0]?.reason ?? ''
}

/** Writes, and returns what happened to each file. */
export async function write(
  certsDir: string,
  registries: readonly string[],
  options: Options = {},
): Promise<Record<string, string>> {
  return await carryOut(certsDir, await plan(certsDir, registries, options))
}

/** Carries out a plan, and returns what happened to each file. */
export async function carryOut(certsDir: string, { changes, refusals }: Plan): Promise<Record<string, string>> {
  assert.deepEqual(refusals, [])
  for (const change of changes) await applyChange(change, HOSTS_FILES)
  return Object.fromEntries(changes.map(({ path, action }) => [relative(certsDir, path), action]))
}

export async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}
