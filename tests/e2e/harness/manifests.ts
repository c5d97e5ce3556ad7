/** The manifests of k8s/ as kubectl renders them, for the tests. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type * as apps from 'kubernetes-models/apps/v1'
import type * as core from 'kubernetes-models/v1'
import { parseAllDocuments } from 'yaml'
import { readSettings } from '../../../lib/settings/read.ts'
import type { Settings } from '../../../lib/settings/settings.ts'

export const ROOT = join(import.meta.dirname, '..', '..', '..')
export const K8S = join(ROOT, 'k8s')
/** As `key` prints it, with the end of the line. */
export const KEY = `${'a'.repeat(43)}\n`
/** The node that the manifests are read for. */
export const NODE = '10.1.2.3'

export interface Resource {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
}

export type Pod = NonNullable<NonNullable<NonNullable<core.IPodTemplateSpec['spec']>>>
export type Container = Pod['containers'][number]

export interface Rendered {
  /** The folder below k8s/. */
  readonly name: string
  readonly resources: readonly Resource[]
  readonly pod: Pod
  readonly daemonSet: apps.IDaemonSet
}

/** The folders below k8s/ that can be applied. */
export const FOLDERS = [
  'base',
  ...(await readdir(join(K8S, 'overlays'))).map((name) => `overlays/${name}`),
  ...(await readdir(join(K8S, 'uninstall'))).map((name) => `uninstall/${name}`),
]

/** A copy of k8s/ with everything in it rendered. */
export interface Manifests {
  /** Where `k8s` is, and where other files may be put. */
  readonly dir: string
  of(name: string): Rendered
  /** Renders a folder that was added to the copy. */
  render(name: string): Promise<Rendered>
  remove(): Promise<void>
}

export async function renderManifests(): Promise<Manifests> {
  const dir = await mkdtemp(join(tmpdir(), 'swarmirror-k8s-'))
  // A person's own key may lie in the work tree: the copy has another one.
  await cp(K8S, join(dir, 'k8s'), { recursive: true })
  await writeFile(join(dir, 'k8s', 'base', 'swarm.key'), KEY)
  const rendered = new Map<string, Rendered>()
  for (const name of FOLDERS) rendered.set(name, await render(join(dir, 'k8s'), name))
  return {
    dir,
    of: (name) => rendered.get(name) ?? assert.fail(`${name} was not rendered`),
    render: (name) => render(join(dir, 'k8s'), name),
    remove: () => rm(dir, { recursive: true, force: true }),
  }
}

async function render(root: string, name: string): Promise<Rendered> {
  const { stdout } = await promisify(execFile)('kubectl', ['kustomize', join(root, name)])
  // As Kubernetes reads them: YAML 1.1, where 0400 is octal.
  const resources = parseAllDocuments(stdout, { version: '1.1' }).map((document) => document.toJS() as Resource)
  const [daemonSet, ...more] = resources.filter(({ kind }) => kind === 'DaemonSet') as apps.IDaemonSet[]
  assert.ok(daemonSet?.spec?.template.spec && more.length === 0, `${name} has one DaemonSet`)
  return { name, resources, daemonSet, pod: daemonSet.spec.template.spec }
}

/** The containers of the mirror's own image. */
export function own({ initContainers = [], containers }: Pod): Container[] {
  return [...initContainers, ...containers].filter(({ image }) => image?.startsWith('localhost/swarmirror:'))
}

/** What the kubelet makes of a container's environment: `$(NAME)` is replaced by a variable that stands before it. */
export function environmentOf(container: Container, resources: readonly Resource[]): Record<string, string> {
  const environment: Record<string, string> = {}
  for (const { configMapRef } of container.envFrom ?? []) {
    const map = resources.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === configMapRef?.name)
    assert.ok(map, `no ConfigMap ${configMapRef?.name}`)
    Object.assign(environment, (map as core.IConfigMap).data)
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    const field = valueFrom?.fieldRef?.fieldPath
    assert.ok(value !== undefined || field === 'status.hostIP', `${name} has a value that is known here`)
    environment[name] = value?.replace(/\$\((\w+)\)/g, (whole, other) => environment[other] ?? whole) ?? NODE
  }
  return environment
}

export function settingsOf(environment: Readonly<Record<string, string>>): Settings {
  const readFile = (path: string) => {
    assert.equal(path, '/etc/swarmirror/swarm.key')
    return KEY
  }
  return readSettings({ flags: [], environment, readFile, modeOf: () => 0o400 })
}
