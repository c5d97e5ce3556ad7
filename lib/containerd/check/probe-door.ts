import { randomBytes, randomInt } from 'node:crypto'
import { errorAnswer, OciError } from '../../oci/error.ts'
import { makeImage } from '../../oci/make-image.ts'
import { parseRequestPath } from '../../oci/path.ts'
import { DEFAULT_REGISTRY } from '../../oci/reference.ts'
import { ownPlatform } from '../../platform/runtime.ts'
import { probePort } from '../probe-name.ts'

/** Seeds up to here stay exact in the arithmetic of {@link makeImage}. */
const SEEDS = 2 ** 40
/** Bytes of the probe's only file. The pull gets three blobs of some 3 KiB together. */
const FILE_SIZE = 64

/** An image that exists for one probe, under a name that no registry can have: `.invalid` never resolves (RFC 6761, 6.4). */
export type ProbeImage = ReturnType<typeof makeProbeImage>

/** Makes an image for this machine's platform that nobody else has. A door on that port of this machine serves it. */
export function makeProbeImage(port: number) {
  const token = randomBytes(8).toString('hex')
  const registry = `probe-${token}-${port}.swarmirror.invalid`
  // Also random, so that the door recognises a request even if its `ns` was lost on the way.
  const repository = `swarmirror/probe-${token}`
  const tag = '1'
  const image = makeImage({ layers: 1, layerSize: FILE_SIZE, seed: randomInt(SEEDS), platform: ownPlatform })
  const layer = image.contents.at(-1)?.descriptor
  if (layer === undefined) throw new Error('the image of a probe has no layer')
  return {
    registry,
    repository,
    tag,
    /** The full reference, which containerd pulls. */
    reference: `${registry}/${repository}:${tag}`,
    image,
    layer,
  }
}

/** The parts of an answered request for a probe that are evidence. */
export interface ProbeRequest {
  readonly method: string
  /** `other`: the probe has no such content. */
  readonly part: 'manifest' | 'config' | 'layer' | 'other'
  /** The query's `ns`; missing if there was none. */
  readonly ns?: string
}

/** Tells whether a probe still runs. It is no evidence, and containerd never asks for it. */
const ALIVE_TAG = 'alive'

/** In the order of the contents of an image with one layer. */
const PARTS = ['manifest', 'config', 'layer'] as const

/**
 * Serves probes, each under its own name and only while it runs. It sees requests before the registry door and keeps those about
 * probes, which must not reach the store or the swarm. It forwards requests about probes of other processes to them.
 */
export type ProbeDoor = ReturnType<typeof createProbeDoor>

export function createProbeDoor() {
  const served = new Map<ProbeImage, { readonly requests: ProbeRequest[]; withheld: boolean }>()

  function answer(probe: ProbeImage, requests: ProbeRequest[], method: string, name?: string, ns?: string) {
    const { image, tag, registry } = probe
    const wanted = name === tag ? image.target.digest : name
    const at = image.contents.findIndex(({ descriptor }) => descriptor.digest === wanted)
    const content = image.contents[at]
    requests.push({ method, part: PARTS[at] ?? 'other', ...(ns === undefined ? {} : { ns }) })
    if (content === undefined || ns !== registry) return unknown()
    const { mediaType, digest, size } = content.descriptor
    const headers = { 'Content-Type': mediaType, 'Content-Length': String(size), 'Docker-Content-Digest': digest }
    return new Response(method === 'HEAD' ? null : Buffer.from(content.bytes), { headers })
  }

  return {
    /** Answers requests about probes; `undefined` for everything else. */
    fetch(request: Request): Response | undefined {
      const asked = askedFor(request)
      if (asked === undefined) return undefined
      for (const [probe, { requests, withheld }] of served) {
        // Compares the repository too, since the probe must find an `ns` that was lost or changed on the way.
        if (asked.registry !== probe.registry && !asked.repository.endsWith(probe.repository)) continue
        if (asked.name === ALIVE_TAG) return new Response(null, { status: 200, headers: { 'Content-Length': '0' } })
        return withheld ? unknown() : answer(probe, requests, request.method, asked.name, asked.ns)
      }
      const port = probePort(asked.registry)
      return port === undefined ? undefined : elsewhere(request, port)
    },

    serve(probe: ProbeImage) {
      const state = { requests: [] as ProbeRequest[], withheld: false }
      served.set(probe, state)
      return {
        /** The requests for this probe so far, in order. */
        requests: state.requests as readonly ProbeRequest[],
        /** Stops serving the probe, so that a running pull fails. The probe still counts as running. */
        withhold(): void {
          state.withheld = true
        },
        /** Ends the probe: from then on its name is unknown. */
        close: (): void => void served.delete(probe),
      }
    },
  }
}

/**
 * Whether the door on that port of this machine serves that probe now.
 *
 * @returns `undefined` if that is unknown, because something listens there but does not answer
 */
export async function isProbeServed(
  { registry, host, port }: { readonly registry: string; readonly host: string; readonly port: number },
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const url = `http://${host}:${port}/v2/probe/manifests/${ALIVE_TAG}?ns=${registry}`
  try {
    return (await fetch(url, { method: 'HEAD', signal, redirect: 'manual' })).status === 200
  } catch {
    // A refused connection is an answer: without a door there is no probe. A timeout is none.
    return signal.aborted ? undefined : false
  }
}

/** What a request to the registry's API is for, if it may be about a probe. */
function askedFor(request: Request) {
  const url = new URL(request.url)
  const ns = url.searchParams.get('ns') ?? undefined
  if (!url.pathname.includes('/probe') && !ns?.startsWith('probe-')) return undefined
  try {
    // The probe must find an `ns` that was lost on the way.
    const target = parseRequestPath(url.pathname, ns, DEFAULT_REGISTRY)
    if (target === undefined) return undefined
    return { ...target, ns, name: target.tag ?? target.digest }
  } catch (error) {
    // The registry door refuses requests that do not belong to the API.
    if (error instanceof OciError) return undefined
    throw error
  }
}

/** Forwards a request for another process's probe to the door that its name tells, because containerd was sent to this one. */
function elsewhere(request: Request, port: number): Response {
  const url = new URL(request.url)
  if (url.port === String(port)) return unknown()
  const headers = { Location: `http://127.0.0.1:${port}${url.pathname}${url.search}`, 'Content-Length': '0' }
  return new Response(null, { status: 307, headers })
}

function unknown(): Response {
  return errorAnswer(new OciError('MANIFEST_UNKNOWN', 'no such probe runs here'))
}
