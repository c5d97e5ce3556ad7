import { createClient, type Transport } from '@connectrpc/connect'
import { Events } from '../../../proto/containerd/services/events/v1/events_pb.ts'
import { type Image, Images } from '../../../proto/containerd/services/images/v1/images_pb.ts'
import { Introspection } from '../../../proto/containerd/services/introspection/v1/introspection_pb.ts'
import { Leases } from '../../../proto/containerd/services/leases/v1/leases_pb.ts'
import { Namespaces } from '../../../proto/containerd/services/namespaces/v1/namespace_pb.ts'
import { Version } from '../../../proto/containerd/services/version/v1/version_pb.ts'
import type { Descriptor } from '../../oci/descriptor.ts'
import { isDigest } from '../../oci/digest.ts'
import { call, found, numberOf } from './call.ts'
import { type ContainerdContent, contentCalls } from './content.ts'
import { CRI_NAMESPACE, type CriClient, criCalls } from './cri.ts'
import { type ContainerdEvent, decodeEvents, eventFilters, type Topic } from './events.ts'
import { openStream, type ServerStream } from './stream.ts'
import { type ConnectionOptions, createContainerdConnection } from './transport.ts'

/** Longest wait for the next message of a stream that should flow, in milliseconds: a disk may be slow, but not hang. */
export const STALL_TIMEOUT = 15_000

/** A name and what it points to. The target need not be there. */
export interface ContainerdImage {
  readonly name: string
  readonly target: Descriptor
}

/** Where containerd keeps content, and whether a namespace sees what another one pulled; `undefined` where it does not say. */
export interface ContentPlacement {
  /** An absolute path on containerd's own file system. */
  readonly root: string | undefined
  /** `shared` or `isolated`: `content_sharing_policy`. */
  readonly policy: string | undefined
}

/** One plugin of containerd, as introspection lists it. */
export interface Plugin {
  readonly type: string
  readonly id: string
  readonly exports: Readonly<Record<string, string>>
  /** Why it did not start; missing if it did. */
  readonly initError?: string
}

/** What keeps content from the garbage collection besides images: a running pull has one, and so has one that died with containerd. */
export interface Lease {
  readonly id: string
  /** The content that it keeps, as containerd names it. */
  readonly content: readonly string[]
  /** The ingests under it, by the refs that {@link ContainerdContent.ingests} gives. */
  readonly ingests: readonly string[]
}

export interface ClientOptions extends ConnectionOptions {
  /** Longest wait for the next message while listing or reading content, in milliseconds. */
  readonly stallTimeout?: number
}

/**
 * One connection to containerd, which CRI and all namespaces share. The first call makes it; after a break, the next call
 * makes another.
 */
export interface Containerd {
  readonly cri: CriClient
  /** containerd in a namespace. It costs nothing, and there is nothing to close. */
  in(namespace: string): ContainerdClient
  /** Ends the connection and with it every running call; later ones fail with the code `closed`. */
  close(): void
}

/**
 * containerd in one namespace. Every call ends within its bound, with the reason of its signal when that aborts, or with
 * a {@link ContainerdError}. Answers leave out digests of algorithms that this mirror does not speak.
 */
export interface ContainerdClient extends ContainerdContent {
  readonly namespace: string
  version(signal: AbortSignal): Promise<{ readonly version: string; readonly revision: string }>
  namespaces(signal: AbortSignal): Promise<string[]>
  /** Which containerd answers: after a restart it has another process. */
  server(signal: AbortSignal): Promise<{ readonly uuid: string; readonly pid: number }>
  /** Every plugin, those that did not start included. */
  plugins(signal: AbortSignal): Promise<Plugin[]>
  contentPlacement(signal: AbortSignal): Promise<ContentPlacement>
  image(name: string, signal: AbortSignal): Promise<ContainerdImage | undefined>
  images(signal: AbortSignal): Promise<ContainerdImage[]>
  /** Removes a name, and with it the content that nothing else needs. False if there was no such name. */
  deleteImage(name: string, signal: AbortSignal): Promise<boolean>
  leases(signal: AbortSignal): Promise<Lease[]>
  /** Removes a lease, and with it the content that nothing else needs. False if there was no such lease. */
  deleteLease(id: string, signal: AbortSignal): Promise<boolean>
  /**
   * Resolves when containerd has taken up the subscription, so that nothing falls between it and a list that is asked for
   * afterwards: there is no replay. The stream ends with an error when containerd goes away, and is not renewed.
   */
  subscribe(topics: readonly Topic[], signal: AbortSignal): Promise<ServerStream<ContainerdEvent>>
}

/** Opens a connection to the containerd behind a Unix socket. */
export function connectContainerd(socket: string, options: ClientOptions = {}): Containerd {
  const { stallTimeout = STALL_TIMEOUT } = options
  const { transportIn, close } = createContainerdConnection(socket, options)
  return {
    cri: criCalls(transportIn(CRI_NAMESPACE)),
    in: (namespace) => clientOf(transportIn(namespace), namespace, stallTimeout),
    close,
  }
}

function clientOf(transport: Transport, namespace: string, stallTimeout: number): ContainerdClient {
  const images = createClient(Images, transport)
  const events = createClient(Events, transport)
  const introspection = createClient(Introspection, transport)
  const leases = createClient(Leases, transport)
  const namespaces = createClient(Namespaces, transport)
  const version = createClient(Version, transport)

  async function plugins(signal: AbortSignal): Promise<Plugin[]> {
    const answer = await call('Introspection.Plugins', signal, () => introspection.plugins({}, { signal }))
    return answer.plugins.map(({ type, id, exports, initErr }) => ({
      type,
      id,
      exports,
      ...(initErr === undefined ? {} : { initError: initErr.message }),
    }))
  }

  const client: ContainerdClient = {
    namespace,

    async version(signal) {
      const answer = await call('Version', signal, () => version.version({}, { signal }))
      return { version: answer.version, revision: answer.revision }
    },

    async namespaces(signal) {
      const answer = await call('Namespaces.List', signal, () => namespaces.list({}, { signal }))
      return answer.namespaces.map(({ name }) => name)
    },

    async server(signal) {
      const answer = await call('Introspection.Server', signal, () => introspection.server({}, { signal }))
      return { uuid: answer.uuid, pid: numberOf(answer.pid) }
    },

    ...contentCalls(transport, stallTimeout),

    plugins,

    async contentPlacement(signal) {
      const all = await plugins(signal)
      const exportsOf = (type: string, id: string) =>
        all.find((plugin) => plugin.type === type && plugin.id === id)?.exports ?? {}
      return {
        root: exportsOf('io.containerd.content.v1', 'content').root,
        policy: exportsOf('io.containerd.metadata.v1', 'bolt').policy,
      }
    },

    async image(name, signal) {
      const answer = await found('Images.Get', signal, () => images.get({ name }, { signal }))
      return answer?.image && imageOf(answer.image)
    },

    async images(signal) {
      const answer = await call('Images.List', signal, () => images.list({}, { signal }))
      return answer.images.map(imageOf).filter((image) => image !== undefined)
    },

    async deleteImage(name, signal) {
      const removed = await found('Images.Delete', signal, () => images.delete({ name, sync: true }, { signal }))
      return removed !== undefined
    },

    async leases(signal) {
      const answer = await call('Leases.List', signal, () => leases.list({}, { signal }))
      const held: Lease[] = []
      for (const { id } of answer.leases) {
        const kept = await found('Leases.ListResources', signal, () => leases.listResources({ id }, { signal }))
        if (kept === undefined) continue
        const of = (kind: string) => kept.resources.filter(({ type }) => type === kind).map((resource) => resource.id)
        held.push({ id, content: of('content'), ingests: of('ingests') })
      }
      return held
    },

    async deleteLease(id, signal) {
      const removed = await found('Leases.Delete', signal, () => leases.delete({ id, sync: true }, { signal }))
      return removed !== undefined
    },

    async subscribe(topics, signal) {
      const filters = eventFilters(topics, namespace)
      const begin = (signal: AbortSignal) => decodeEvents(events.subscribe({ filters }, { signal }))
      const stream = openStream('Events.Subscribe', begin, { signal, stallTimeout: undefined })
      try {
        // containerd answers a subscription with the first event only; a round trip behind it on the same connection
        // shows that it was taken up.
        await client.version(signal)
      } catch (error) {
        stream.cancel()
        throw error
      }
      return stream
    },
  }
  return client
}

function imageOf({ name, target }: Image): ContainerdImage | undefined {
  if (target === undefined || !isDigest(target.digest)) return undefined
  return { name, target: { mediaType: target.mediaType, digest: target.digest, size: numberOf(target.size) } }
}
