import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type ProbeEvidence, type ProbeOptions, runProbe } from '../../../lib/containerd/check/probe.ts'
import { createProbeDoor, type ProbeDoor } from '../../../lib/containerd/check/probe-door.ts'
import { PROBE_RULES } from '../../../lib/containerd/check/probe-rules.ts'
import { sweepProbes } from '../../../lib/containerd/check/probe-traces.ts'
import { type ContainerdClient, connectContainerd } from '../../../lib/containerd/client/client.ts'
import { CRI_NAMESPACE, type CriClient } from '../../../lib/containerd/client/cri.ts'
import { findingsOf } from '../../../lib/containerd/rule.ts'
import { listen } from '../../../lib/platform/listen.ts'
import type { Handler, Listener } from '../../../lib/platform/listener.ts'
import { startContainerd } from '../../fixtures/containerd.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

export const never = new AbortController().signal
export const containerd = await startContainerd()
const directory = dirname(containerd.socket)
export const certsDir = join(directory, 'certs.d')
export const configFile = join(directory, 'config.toml')
export const plain = await readFile(configFile, 'utf8')
await mkdir(certsDir)

const REGISTRY = `[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = ${JSON.stringify(certsDir)}\n`

/** Restarts containerd with other lines: `containerd` goes into the CRI plugin's table of that name, the rest to the end. */
export async function configure({ rest = REGISTRY, containerd: lines = '' }: { rest?: string; containerd?: string }) {
  const text = `${plain}${lines}\n${rest}`
  if ((await readFile(configFile, 'utf8')) === text) return
  await containerd.stop()
  await writeFile(configFile, text)
  await containerd.start()
}

type Traces = Readonly<Record<'images' | 'content' | 'leases' | 'snapshots' | 'certs', readonly string[]>>

export interface Tools {
  readonly client: ContainerdClient
  readonly cri: CriClient
  readonly listener: Listener
  readonly lines: ReturnType<typeof createLogRecorder>['lines']
  probe(options?: Partial<ProbeOptions> & { readonly signal?: AbortSignal }): Promise<ProbeEvidence>
  sweep(): Promise<readonly string[]>
  /** Everything that a probe could leave behind: names of images, digests, snapshots, leases, hosts.toml directories. */
  traces(): Promise<Traces>
}

export async function withTools(
  use: (tools: Tools) => Promise<void>,
  handler?: (door: ProbeDoor) => Handler,
): Promise<void> {
  const door = createProbeDoor()
  const answer = handler?.(door) ?? ((request: Request) => door.fetch(request) ?? new Response(null, { status: 404 }))
  const listener = await listen(answer, { host: '127.0.0.1', port: 0, onError: (error) => assert.fail(String(error)) })
  const connection = connectContainerd(containerd.socket)
  const client = connection.in(CRI_NAMESPACE)
  const { cri } = connection
  const { log, lines } = createLogRecorder()
  const places = { client, cri, certsDir, log }
  const defaultPointsHere = async () => 'there is none'
  try {
    await use({
      client,
      cri,
      listener,
      lines,
      probe: ({ signal = never, ...options } = {}) =>
        runProbe({ ...places, door, defaultPointsHere }, { address: listener, ...options }, signal),
      sweep: () => sweepProbes(places, { hosts: [], log }, never),
      async traces() {
        const ctr = async (...args: string[]) => (await containerd.ctr(CRI_NAMESPACE, args)).split('\n')
        return {
          images: await ctr('images', 'ls', '--quiet'),
          content: await ctr('content', 'ls', '--quiet'),
          leases: await ctr('leases', 'ls', '--quiet'),
          snapshots: await ctr('snapshots', '--snapshotter', 'native', 'ls'),
          certs: (await readdir(certsDir)).sort(),
        }
      },
    })
  } catch (cause) {
    throw new Error(`what was logged meanwhile: ${JSON.stringify(lines)}`, { cause })
  } finally {
    connection.close()
    await listener.close(AbortSignal.abort())
  }
}

/** Answers every request of a probe except GETs of that media type, which it holds back. */
const without = (part: string) => (door: ProbeDoor) => (request: Request) => {
  const response = door.fetch(request) ?? new Response(null, { status: 404 })
  const held = request.method === 'GET' && response.headers.get('content-type')?.includes(part) === true
  return held
    ? new Promise<Response>((resolve) => request.signal.addEventListener('abort', () => resolve(response)))
    : response
}
export const withoutLayer = without('layer')

/** The findings that follow from a probe's evidence alone. */
export const probeFindings = (probe: ProbeEvidence) => findingsOf(PROBE_RULES, { probe, config: undefined })

export const severities = async (evidence: ProbeEvidence) =>
  (await probeFindings(evidence)).map(({ id, severity }) => `${id} ${severity}`)
