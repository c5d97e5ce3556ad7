import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Digest } from '../../../lib/oci/digest.ts'
import { parseAccessLog, type UpstreamRequest } from './access-log.ts'
import { Daemon } from './daemon.ts'
import type { Image } from './image.ts'
import { type Lock, OWNER } from './lock.ts'
import type { Namespace } from './namespace.ts'
import { until } from './wait.ts'

/** The registry's name in references. It does not resolve: every node's hosts.toml says where the registry is. */
export const REGISTRY_NAME = 'registry.test'

const PORT = 5000

/** The user agent of a mirror that asks whether the registry answers. */
const PROBE_AGENT = 'swarmirror'

/** An image in the registry, under a name. */
export interface PushedImage extends Image {
  /** The name in references. */
  readonly registry: string
  readonly repository: string
  readonly tag: string
  /** As a pod would name it, such as `registry.test/team/app:v1`. */
  readonly reference: string
  /** The same image by digest, such as `registry.test/team/app@sha256:...`. */
  readonly digestReference: string
}

export interface RegistryOptions {
  /** For its files and its log. */
  readonly directory: string
  readonly name?: string
  /** Who may pull and push; by default everybody. */
  readonly lock?: Lock | undefined
}

/** The upstream: a docker-registry on file storage, on a host of its own. Its access log tells who asked for what. */
export class Registry {
  readonly daemon: Daemon
  readonly network: Namespace
  /** The name in references. */
  readonly name: string
  /** Where nodes reach it. */
  readonly url: string
  readonly lock: Lock | undefined

  constructor(namespace: Namespace, { directory, name = REGISTRY_NAME, lock }: RegistryOptions) {
    this.network = namespace
    this.name = name
    this.url = `http://${namespace.address}:${PORT}`
    this.lock = lock
    const config = join(directory, 'config.json')
    // JSON is also YAML.
    writeFileSync(
      config,
      JSON.stringify({
        version: '0.1',
        log: { level: 'warn' },
        storage: { filesystem: { rootdirectory: join(directory, 'storage') }, delete: { enabled: true } },
        http: { addr: `0.0.0.0:${PORT}` },
        auth: lock?.settings,
      }),
    )
    this.daemon = new Daemon({
      name: 'registry',
      title: 'the registry',
      namespace,
      logDirectory: directory,
      command: 'docker-registry',
      args: () => ['serve', config],
      ready: async () => ['200', '401'].includes(await this.#ask('/v2/')),
    })
  }

  /**
   * Stores the image with all its platforms.
   *
   * @param name repository and tag, such as `team/app:v1`
   */
  async push(image: Image, name: string): Promise<PushedImage> {
    const [repository = '', tag = 'latest'] = name.split(':')
    const destination = `docker://127.0.0.1:${PORT}/${repository}:${tag}`
    const options = ['--insecure-policy', 'copy', '--all', '--preserve-digests', '--dest-tls-verify=false']
    if (this.lock !== undefined) options.push('--dest-creds', `${OWNER.username}:${OWNER.password}`)
    await this.network.exec('skopeo', [...options, `oci:${image.layout}:image`, destination])
    const reference = `${this.name}/${repository}:${tag}`
    const digestReference = `${this.name}/${repository}@${image.target.digest}`
    return { ...image, registry: this.name, repository, tag, reference, digestReference }
  }

  /** Stops the registry for as long as `work` takes. */
  async whileDown<T>(work: () => Promise<T>): Promise<T> {
    await this.daemon.stop()
    try {
      return await work()
    } finally {
      await this.daemon.start()
    }
  }

  /**
   * The requests to the registry while `work` ran, in the order of its answers, without the requests by which mirrors find out
   * whether it answers.
   */
  async requestsDuring(work: () => Promise<unknown>): Promise<UpstreamRequest[]> {
    const before = (await this.#requestsUntilNow()).length
    await work()
    return (await this.#requestsUntilNow()).slice(before)
  }

  /** The log once a request of our own has appeared in it: it then also holds every earlier answer. */
  async #requestsUntilNow(): Promise<UpstreamRequest[]> {
    const fence = `/v2/?fence=${randomUUID()}`
    await this.#ask(fence)
    return await until("the registry's access log to be complete", () => {
      const requests = parseAccessLog(this.daemon.output('stdout'))
      return requests.some(({ target }) => target === fence)
        ? requests.filter(({ target, userAgent }) => !target.startsWith('/v2/?fence=') && userAgent !== PROBE_AGENT)
        : undefined
    })
  }

  /** Asks with GET, and returns the status. */
  #ask(path: string): Promise<string> {
    const options = [
      '--silent',
      '--show-error',
      '--max-time',
      '5',
      '--output',
      '/dev/null',
      '--write-out',
      '%{http_code}',
    ]
    return this.network.exec('curl', [...options, `http://127.0.0.1:${PORT}${path}`])
  }
}

/** The path of a manifest of an image's repository, as containerd asks a mirror for it. */
export function manifestPath(image: PushedImage, reference: string = image.target.digest): string {
  return `/v2/${image.repository}/manifests/${reference}?ns=${image.registry}`
}

/** The path of a blob of an image's repository, as containerd asks a mirror for it. */
export function blobPath(image: PushedImage, digest: string): string {
  return `/v2/${image.repository}/blobs/${digest}?ns=${image.registry}`
}

/** All content that a pull of the image asks for. */
export function pathsOf(image: PushedImage): string[] {
  const { manifest, config, layers } = image.own
  const manifests = new Set([image.target.digest, manifest.digest])
  const blobs = [config, ...layers].map(({ digest }) => digest)
  return [...[...manifests].map((name) => manifestPath(image, name)), ...blobs.map((digest) => blobPath(image, digest))]
}

/** Those of the requests that ask for one of the digests. */
export function requestsFor(digests: readonly Digest[], requests: readonly UpstreamRequest[]): UpstreamRequest[] {
  return requests.filter(({ target }) => digests.some((digest) => decodeURIComponent(target).includes(digest)))
}
