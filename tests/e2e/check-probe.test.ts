import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { type ProbeEvidence, type ProbeOptions, runProbe } from '../../lib/check/probe.ts'
import { createProbeDoor, type ProbeDoor } from '../../lib/check/probe-door.ts'
import { probeFindings } from '../../lib/check/probe-findings.ts'
import { isProbeRegistry, makeProbeImage } from '../../lib/check/probe-image.ts'
import { sweepProbes, writeProbeHosts } from '../../lib/check/probe-traces.ts'
import { createContainerdClient } from '../../lib/containerd/client.ts'
import { CRI_NAMESPACE, createCriClient } from '../../lib/containerd/client-cri.ts'
import { type Handler, type Listener, listen } from '../../lib/runtime/listen.ts'
import { startContainerd } from '../fixtures/containerd.ts'
import { createLogRecorder } from '../fixtures/log.ts'
import { waitFor } from '../fixtures/wait.ts'

const never = new AbortController().signal
const containerd = await startContainerd()
const directory = dirname(containerd.socket)
const certsDir = join(directory, 'certs.d')
const configFile = join(directory, 'config.toml')
const plain = await readFile(configFile, 'utf8')
await mkdir(certsDir)
after(() => containerd.close())

const REGISTRY = `[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = ${JSON.stringify(certsDir)}\n`

/** Starts containerd anew with other lines: `containerd` goes into the CRI plugin's table of that name, the rest to the end. */
async function configure({ rest = REGISTRY, containerd: lines = '' }: { rest?: string; containerd?: string }) {
  const text = `${plain}${lines}\n${rest}`
  if ((await readFile(configFile, 'utf8')) === text) return
  await containerd.stop()
  await writeFile(configFile, text)
  await containerd.start()
}

type Traces = Readonly<Record<'images' | 'content' | 'leases' | 'snapshots' | 'certs', readonly string[]>>

interface Tools {
  readonly client: ReturnType<typeof createContainerdClient>
  readonly cri: ReturnType<typeof createCriClient>
  readonly listener: Listener
  readonly lines: ReturnType<typeof createLogRecorder>['lines']
  probe(options?: Partial<ProbeOptions> & { readonly signal?: AbortSignal }): Promise<ProbeEvidence>
  sweep(): Promise<readonly string[]>
  /** Everything that a probe could leave: names of images, digests, snapshots, leases, hosts.toml directories. */
  traces(): Promise<Traces>
}

async function withTools(use: (tools: Tools) => Promise<void>, handler?: (door: ProbeDoor) => Handler): Promise<void> {
  const door = createProbeDoor()
  const answer = handler?.(door) ?? ((request: Request) => door.fetch(request) ?? new Response(null, { status: 404 }))
  const listener = await listen(answer, { host: '127.0.0.1', port: 0, onError: (error) => assert.fail(String(error)) })
  const client = createContainerdClient({ socket: containerd.socket, namespace: CRI_NAMESPACE })
  const cri = createCriClient(containerd.socket)
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
  } finally {
    client.close()
    cri.close()
    await listener.close(AbortSignal.abort())
  }
}

const severities = (evidence: ProbeEvidence) => probeFindings(evidence).map(({ id, severity }) => `${id} ${severity}`)

test('probe shows a containerd that asks and keeps, and leaves nothing', async () => {
  await configure({})
  await withTools(async ({ probe, traces, lines }) => {
    const before = await traces()
    const evidence = await probe()
    assert.equal(evidence.kind, 'pulled')
    const { registry, requests } = evidence
    assert.ok(isProbeRegistry(registry))
    assert.deepEqual(
      requests.map(({ method, part, ns }) => [method, part, ns === registry]),
      [
        ['HEAD', 'manifest', true],
        ['GET', 'manifest', true],
        ['GET', 'config', true],
        ['GET', 'layer', true],
      ],
    )
    assert.deepEqual(severities(evidence), ['probe-mirror-asked ok', 'probe-layers-kept ok'])
    assert.deepEqual(await traces(), before)
    assert.deepEqual(lines, [])
  })
})

test('probe shows a containerd that does not ask the mirror', async () => {
  await configure({ rest: '' })
  await withTools(async ({ probe, traces }) => {
    const before = await traces()
    const evidence = await probe()
    assert.deepEqual(severities(evidence), ['probe-mirror-asked error', 'probe-layers-kept unknown'])
    assert.match(probeFindings(evidence)[0]?.seen ?? '', /did not ask .*no such host/)
    assert.deepEqual(await traces(), before)
  })
})

test('probe shows a containerd that discards unpacked layers', async () => {
  const table = '[plugins."io.containerd.grpc.v1.cri".containerd]\nsnapshotter = "native"\n'
  await configure({ containerd: 'discard_unpacked_layers = true' })
  assert.ok(plain.endsWith(table), 'the line belongs to that table')
  await withTools(async ({ probe, traces }) => {
    const before = await traces()
    assert.deepEqual(severities(await probe()), ['probe-mirror-asked ok', 'probe-layers-kept error'])
    assert.deepEqual(await traces(), before)
  })
})

test('probe cannot be where CRI does not run', async () => {
  await containerd.stop()
  await writeFile(
    configFile,
    plain.replace('disabled_plugins = [', 'disabled_plugins = [\n"io.containerd.grpc.v1.cri",'),
  )
  await containerd.start()
  await withTools(async ({ probe, traces }) => {
    const before = await traces()
    const evidence = await probe()
    assert.deepEqual(severities(evidence), ['probe-mirror-asked unknown', 'probe-layers-kept unknown'])
    assert.match(JSON.stringify(evidence), /without its CRI plugin/)
    assert.deepEqual(await traces(), before)
  })
})

test('probe tells a request that lost its ns on the way', async () => {
  await configure({})
  const withoutNs = (door: ProbeDoor) => (request: Request) => {
    const url = new URL(request.url)
    url.searchParams.delete('ns')
    return door.fetch(new Request(url, request)) ?? new Response(null, { status: 404 })
  }
  await withTools(async ({ probe }) => {
    const evidence = await probe()
    assert.deepEqual(severities(evidence), ['probe-mirror-asked error', 'probe-layers-kept unknown'])
    assert.match(probeFindings(evidence)[0]?.seen ?? '', /without ns instead of ns=probe-/)
  }, withoutNs)
})

test('probe tells a door that containerd cannot reach', async () => {
  await configure({})
  await withTools(async ({ probe }) => {
    // The discard port, on which nobody listens.
    const evidence = await probe({ address: { host: '127.0.0.1', port: 9 } })
    assert.deepEqual(severities(evidence), ['probe-mirror-asked error', 'probe-layers-kept unknown'])
    assert.match(probeFindings(evidence)[0]?.seen ?? '', /told to ask http:\/\/127\.0\.0\.1:9 and cannot reach it/)
  })
})

/** Answers everything about a probe but its layer, which it holds back. */
const withoutLayer = (door: ProbeDoor) => (request: Request) => {
  const response = door.fetch(request) ?? new Response(null, { status: 404 })
  const last = response.headers.get('content-type')?.includes('layer') === true
  return last
    ? new Promise<Response>((resolve) => request.signal.addEventListener('abort', () => resolve(response)))
    : response
}

test('probe that is not done in time is given up on, and leaves nothing', async () => {
  await configure({})
  await withTools(async ({ probe, traces, lines }) => {
    const before = await traces()
    const evidence = await probe({ pullTimeout: 500 })
    assert.deepEqual(severities(evidence), ['probe-mirror-asked ok', 'probe-layers-kept unknown'])
    assert.deepEqual(await traces(), before)
    assert.deepEqual(lines, [])
  }, withoutLayer)
})

test('probe ends with its signal, and leaves nothing', async () => {
  await configure({})
  await withTools(async ({ probe, traces, lines }) => {
    const before = await traces()
    const controller = new AbortController()
    const reason = new Error('enough')
    const probing = probe({ signal: controller.signal })
    const rejected = assert.rejects(probing, reason)
    await waitFor('a lease of the pull', async () => (await traces()).leases.length > before.leases.length)
    controller.abort(reason)
    await rejected
    assert.deepEqual(await traces(), before)
    assert.deepEqual(lines, [])
  }, withoutLayer)
})

test('sweep removes what a killed probe has left, and nothing of one that runs', async () => {
  await configure({})
  await withTools(async ({ probe, sweep, traces, cri }) => {
    const before = await traces()
    // Nobody listens on that port any more.
    const dead = 'probe-0123456789abcdef-9.swarmirror.invalid'
    await writeProbeHosts(certsDir, dead, 'http://127.0.0.1:9')
    await mkdir(join(certsDir, `.${dead}`))
    const stranger = 'probe-0123456789abcdef.swarmirror.invalid'
    await mkdir(join(certsDir, stranger))
    const controller = new AbortController()
    const running = probe({ signal: controller.signal })
    const ended = assert.rejects(running)
    try {
      const during = await waitFor('the hosts.toml of the running probe', async () => {
        const { certs } = await traces()
        return certs.length === before.certs.length + 4 && certs
      })
      assert.deepEqual(await sweep(), [dead])
      assert.deepEqual(
        (await traces()).certs,
        during.filter((name) => !name.includes(dead)),
      )
    } finally {
      controller.abort(new Error('enough'))
      await ended
    }
    await rmdir(join(certsDir, stranger))
    assert.deepEqual(await traces(), before)
    assert.equal((await cri.version(never)).name, 'containerd')
  }, withoutLayer)
})

test('sweep removes an image with all of its names, and its content', async () => {
  await configure({})
  const doors: ProbeDoor[] = []
  const answer = (door: ProbeDoor) => {
    doors.push(door)
    return (request: Request) => door.fetch(request) ?? new Response(null, { status: 404 })
  }
  await withTools(async ({ cri, sweep, traces, listener }) => {
    const before = await traces()
    const image = makeProbeImage(listener.port)
    await writeProbeHosts(certsDir, image.registry, `http://127.0.0.1:${listener.port}`)
    const [door] = doors
    assert.ok(door)
    const served = door.serve(image)
    await cri.pullImage(image.reference, never)
    // What a removal that was killed in its middle leaves: names that do not tell the registry.
    await containerd.ctr(CRI_NAMESPACE, ['images', 'rm', image.reference])
    assert.deepEqual(await sweep(), [], 'it still runs')
    served.close()
    assert.deepEqual(await sweep(), [image.registry])
    assert.deepEqual(await traces(), before)
  }, answer)
})

test('sweep removes content that nothing keeps, and that no garbage collection takes', async () => {
  await configure({})
  await withTools(async ({ sweep, traces }) => {
    const before = await traces()
    // Nobody listens on that port.
    const dead = 'probe-0123456789abcdef-9.swarmirror.invalid'
    const bytes = Buffer.from('a layer')
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    await containerd.ctr(CRI_NAMESPACE, ['content', 'ingest', `layer-${digest}`], bytes)
    await containerd.ctr(CRI_NAMESPACE, [
      'content',
      'label',
      digest,
      `containerd.io/distribution.source.${dead}=swarmirror/probe`,
    ])
    assert.ok((await traces()).content.includes(digest))
    assert.deepEqual(await sweep(), [dead])
    assert.deepEqual(await traces(), before)
  })
})

test('sweep removes the lease and the content of a pull that died with containerd', async () => {
  await configure({})
  await withTools(async ({ probe, sweep, traces, lines }) => {
    const before = await traces()
    const ended = assert.rejects(probe(), { name: 'ContainerdError', code: 'unavailable' })
    await waitFor('the content of the probe', async () => (await traces()).content.length > before.content.length + 1)
    await containerd.kill()
    await ended
    assert.deepEqual(
      lines.map(({ event }) => event),
      ['a probe could not be removed; the next start tries again'],
    )
    await containerd.start()
    assert.notDeepEqual((await traces()).leases, before.leases)
    assert.equal((await sweep()).length, 1)
    assert.deepEqual(await traces(), before)
  }, withoutLayer)
})
