/** The chart as helm renders it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type * as apps from 'kubernetes-models/apps/v1'
import type * as core from 'kubernetes-models/v1'
import { parseAllDocuments } from 'yaml'
import type { Settings } from '../../../lib/settings/settings.ts'
import { readSettings } from '../../fixtures/settings.ts'

export const ROOT = join(import.meta.dirname, '..', '..', '..')
export const CHART = join(ROOT, 'k8s', 'chart')
/** The node that the manifests are read for. */
export const NODE = '10.1.2.3'

const execute = promisify(execFile)
const HELM = (await execute(join(ROOT, '.ci', 'helm'))).stdout.trim()

export interface Resource {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Record<string, string>
    readonly annotations?: Record<string, string>
  }
}

export type Pod = NonNullable<core.IPodTemplateSpec['spec']>
export type Container = Pod['containers'][number]

export interface Rendered {
  readonly resources: readonly Resource[]
  readonly daemonSet: apps.IDaemonSet
  readonly pod: Pod
  /** What runs on the nodes when the chart is uninstalled, if there is anything to do. */
  readonly uninstall: apps.IDaemonSet | undefined
}

/** Runs helm, whatever its exit code. */
export async function tryHelm(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return await execute(HELM, args).then(
    (output) => ({ code: 0, ...output }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )
}

/** Runs helm, which must succeed, and returns what it printed. */
export async function helm(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await tryHelm(args)
  assert.equal(code, 0, `helm ${args.join(' ')}: ${stderr}`)
  return stdout
}

/** Renders the chart, or the package of it, as a release in a namespace of the same name. */
export async function renderChart(values: object = {}, chart = CHART): Promise<Rendered> {
  const all = { swarmKey: { existingSecret: 'swarmirror' }, ...values }
  const given = Object.entries(all).flatMap(([name, value]) => ['--set-json', `${name}=${JSON.stringify(value)}`])
  return read(await helm('template', 'swarmirror', chart, '--namespace', 'swarmirror', ...given))
}

/** Parsed as Kubernetes does: YAML 1.1, where 0400 is octal. */
export function readResources(text: string): Resource[] {
  return parseAllDocuments(text, { version: '1.1' })
    .map((document) => document.toJS() as Resource | null)
    .filter((resource) => resource !== null)
}

function read(text: string): Rendered {
  const resources = readResources(text)
  const daemonSets = resources.filter(({ kind }) => kind === 'DaemonSet')
  const [daemonSet, ...more] = daemonSets.filter(({ metadata }) => !isHook(metadata)) as apps.IDaemonSet[]
  assert.ok(daemonSet?.spec?.template.spec && more.length === 0, 'one DaemonSet runs the mirror')
  const [uninstall] = daemonSets.filter(({ metadata }) => isHook(metadata)) as apps.IDaemonSet[]
  return { resources, daemonSet, pod: daemonSet.spec.template.spec, uninstall }
}

const isHook = ({ annotations = {} }: Resource['metadata']) => Object.hasOwn(annotations, 'helm.sh/hook')

/** The pod of a DaemonSet. */
export function podOf(daemonSet: apps.IDaemonSet | undefined): Pod {
  return daemonSet?.spec?.template.spec ?? assert.fail('the DaemonSet is missing')
}

/** The containers of the mirror's own image. */
export function own({ initContainers = [], containers }: Pod): Container[] {
  return [...initContainers, ...containers].filter(({ image }) => image?.startsWith('localhost/swarmirror:'))
}

/** A container's environment as the kubelet expands it: earlier variables replace `$(NAME)`. */
export function environmentOf({ env = [] }: Container, node = NODE): Record<string, string> {
  const environment: Record<string, string> = {}
  for (const { name, value, valueFrom } of env) {
    assert.ok(!(name in environment), `${name} is there twice, which the API server refuses`)
    const field = { 'status.hostIP': node, 'spec.nodeName': 'node-1' }[valueFrom?.fieldRef?.fieldPath ?? '']
    const text = value?.replace(/\$\((\w+)\)/g, (whole, other) => environment[other] ?? whole) ?? field
    environment[name] = text ?? assert.fail(`the value of ${name} is unknown here`)
  }
  return environment
}

export function settingsOf(environment: Readonly<Record<string, string>>): Settings {
  const settings = readSettings({ flags: [], environment, readsKey: false })
  assert.equal(settings['swarm-key-file'], '/etc/swarmirror/swarm.key')
  return settings
}
