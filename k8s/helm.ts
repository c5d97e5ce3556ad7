/**
 * The chart without an installed helm:
 *
 *   npm run --silent manifests -- [--uninstall] [helm's flags, such as --set distribution=talos]
 *       prints plain manifests for `kubectl apply -f -`, with a namespace to which Pod Security admits the pods. They lack the Secret
 *       `swarmirror` with the key: make it once. With --uninstall, prints the DaemonSet that restores the nodes.
 *   npm run chart -- [DIR]
 *       packs the chart into DIR (dist/chart by default). Same commit, same bytes: files have the time of SOURCE_DATE_EPOCH or the commit.
 *
 * `.ci/helm` fetches helm.
 */
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, rm, utimes } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { promisify } from 'node:util'

const ROOT = join(import.meta.dirname, '..')
const CHART = join(import.meta.dirname, 'chart')
const NAMESPACE = `apiVersion: v1
kind: Namespace
metadata:
  name: swarmirror
  labels:
    # The node's network and its containerd are beyond the \`baseline\` policy: hostNetwork, hostPort, probes of a host, hostPath.
    # Nothing else is.
    pod-security.kubernetes.io/enforce: privileged
    pod-security.kubernetes.io/audit: privileged
    pod-security.kubernetes.io/warn: privileged
`

const run = async (command: string, args: readonly string[]) =>
  (await promisify(execFile)(command, args, { cwd: ROOT, maxBuffer: 16 << 20 })).stdout
const helm = async (...args: readonly string[]) => await run((await run(join(ROOT, '.ci', 'helm'), [])).trim(), args)

async function printManifests(args: readonly string[]): Promise<void> {
  const isRemoval = args.includes('--uninstall')
  const which = isRemoval ? ['--show-only', 'templates/uninstall.yaml'] : ['--no-hooks']
  const given = ['--set', 'swarmKey.existingSecret=swarmirror', ...args.filter((arg) => arg !== '--uninstall')]
  const rendered = await helm('template', 'swarmirror', CHART, '--namespace', 'swarmirror', ...which, ...given)
  // Without helm, a person waits for the DaemonSet and deletes it.
  const isDaemonSet = (document: string) => /^kind: DaemonSet$/m.test(document)
  const removal = () => rendered.split(/^---$/m).filter(isDaemonSet).join('---')
  process.stdout.write(isRemoval ? removal() : `${NAMESPACE}${rendered}`)
}

async function packChart(dir = join(ROOT, 'dist', 'chart')): Promise<void> {
  const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? (await run('git', ['log', '-1', '--format=%ct'])))
  const work = await mkdtemp(join(tmpdir(), 'swarmirror-chart-'))
  try {
    const chart = join(work, 'swarmirror')
    await cp(CHART, chart, { recursive: true })
    for (const name of await readdir(chart, { recursive: true })) await utimes(join(chart, name), epoch, epoch)
    await mkdir(dir, { recursive: true })
    process.stdout.write(await helm('package', chart, '--destination', dir))
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

const [command, ...args] = process.argv.slice(2)
if (command === 'manifests') await printManifests(args)
else if (command === 'package') await packChart(args[0])
else throw new Error(`${command}: expected manifests or package`)
