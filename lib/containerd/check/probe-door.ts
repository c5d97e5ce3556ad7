import { randomBytes, randomInt } from 'node:crypto'
import type { Descriptor } from '../../oci/digest.ts'
import { errorAnswer, OciError } from '../../oci/error.ts'
import { type Image, makeImage } from '../../oci/make-image.ts'
import { digestNamed, parseRequestPath, tagNamed } from '../../oci/path.ts'
import { DEFAULT_REGISTRY } from '../../oci/reference.ts'
import { ownPlatform } from '../../platform/runtime.ts'
import { probePort } from '../probe-name.ts'

/** An image that exists for one probe, under a name that no registry can have: `.invalid` never resolves (RFC 6761, 6.4). */
export interface ProbeImage {
  /** `probe-<random>-<port of its door>.swarmirror.invalid`. */
  readonly registry: string
  /** Random as well, so that a request is recognised even if its `ns` was lost on the way. */
  readonly repository: string
  readonly tag: string
  /** All of that in full, as it is pulled. */
  readonly reference: string
  readonly image: Image
  readonly layer: Descriptor
}

/** Seeds up to here stay exact in the arithmetic of {@link makeImage}. */
const SEEDS = 2 ** 40
/** Bytes of the probe's only file: what is pulled is three blobs of some 3 KiB together. */
const FILE_SIZE = 64

/** Makes an image of this machine's platform that nobody has, to be served by a door on that port of this machine. */
export function makeProbeImage(port: number): ProbeImage {
  const token = randomBytes(8).toString('hex')
  const registry = `probe-${token}-${port}.swarmirror.invalid`
  const repository = `swarmirror/probe-${token}`
  const tag = '1'
  const image = makeImage({ layers: 1, layerSize: FILE_SIZE, seed: randomInt(SEEDS), platform: ownPlatform })
  const layer = image.contents.at(-1)?.descriptor
  if (layer === undefined) throw new Error('the image of a probe has no layer')
  return { registry, repository, tag, reference: `${registry}/${repository}:${tag}`, image, layer }
}

/** A request for a probe that the door has answered, as far as it is evidence. */
export interface ProbeRequest {
  readonly method: string
  /** `other` is nothing that the probe has. */
  readonly part: 'manifest' | 'config' | 'layer' | 'other'
  /** The query's `ns`; missing if there was none. */
  readonly ns?: string
}

/** Tells whether a probe still runs. It is no evidence, and nothing that containerd would ask for. */
const ALIVE_TAG = 'alive'

/** In the order of the contents of an image with one layer. */
const PARTS = ['manifest', 'config', 'layer'] as const

/**
 * Serves probes, each under its own name and only while it runs. It stands before the registry door and keeps every request
 * about a probe from it, since none of it must reach the store or the swarm. Those about probes of others it sends to them.
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
    /** Answers what is about a probe; `undefined` for everything else. */
    fetch(request: Request): Response | undefined {
      const asked = askedFor(request)
      if (asked === undefined) return undefined
      for (const [probe, { requests, withheld }] of served) {
        // By the repository too: an `ns` that was lost or changed on the way is what the probe is to find.
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
        /** The requests for it so far, in order. */
        requests: state.requests as readonly ProbeRequest[],
        /** Gives nothing of it any more, so that a pull that runs fails. It still counts as running. */
        withhold(): void {
          state.withheld = true
        },
        /** Ends it: from then on its name is as unknown as any other. */
        close: (): void => void served.delete(probe),
      }
    },
  }
}

/**
 * Whether the door on that port of this machine serves that probe at this moment.
 *
 * @returns `undefined` if nobody can tell: something is there that does not answer
 */
export async function isProbeServed(
  { registry, host, port }: { readonly registry: string; readonly host: string; readonly port: number },
  signal: AbortSignal,
): Promise<boolean | undefined> {
  const url = `http://${host}:${port}/v2/probe/manifests/${ALIVE_TAG}?ns=${registry}`
  try {
    return (await fetch(url, { method: 'HEAD', signal, redirect: 'manual' })).status === 200
  } catch {
    // Refused is an answer: without a door, no probe. Being too late is none.
    return signal.aborted ? undefined : false
  }
}

/** What of the registry's API a request is for, if it may be about a probe. */
function askedFor(request: Request) {
  const url = new URL(request.url)
  const ns = url.searchParams.get('ns') ?? undefined
  if (!url.pathname.includes('/probe') && !ns?.startsWith('probe-')) return undefined
  try {
    // An `ns` that was lost on the way is what the probe is to find.
    const target = parseRequestPath(url.pathname, ns, DEFAULT_REGISTRY)
    if (target === undefined) return undefined
    return { ...target, ns, name: tagNamed(target)?.tag ?? digestNamed(target) }
  } catch (error) {
    // The registry door refuses what is no request of the API.
    if (error instanceof OciError) return undefined
    throw error
  }
}

/** Sends a request for the probe of another process to the door that its name tells: containerd was told of this one. */
function elsewhere(request: Request, port: number): Response {
  const url = new URL(request.url)
  if (url.port === String(port)) return unknown()
  const headers = { Location: `http://127.0.0.1:${port}${url.pathname}${url.search}`, 'Content-Length': '0' }
  return new Response(null, { status: 307, headers })
}

function unknown(): Response {
  return errorAnswer(new OciError('MANIFEST_UNKNOWN', 'no such probe runs here'))
}
