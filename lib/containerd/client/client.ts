import type { DescMethod } from '@bufbuild/protobuf'
import { createClient, type Interceptor, type Transport } from '@connectrpc/connect'
import { createGrpcTransport } from '@connectrpc/connect-node'
import { Events } from '../../../proto/containerd/services/events/v1/events_pb.ts'
import { type Image, Images } from '../../../proto/containerd/services/images/v1/images_pb.ts'
import { Introspection } from '../../../proto/containerd/services/introspection/v1/introspection_pb.ts'
import { Namespaces } from '../../../proto/containerd/services/namespaces/v1/namespace_pb.ts'
import { Version } from '../../../proto/containerd/services/version/v1/version_pb.ts'
import { type Descriptor, isDigest } from '../../oci/digest.ts'
import { isMediaType } from '../../oci/media-type.ts'
import { contentCalls } from './content.ts'
import { CRI_NAMESPACE, criCalls } from './cri.ts'
import { ContainerdError, containerdError, numberOf, unless } from './error.ts'
import { type ContainerdEvent, decodeEvent, eventFilters, type Topic } from './events.ts'
import { AUTHORITY, createSession } from './session.ts'
import { openStream, type ServerStream } from './stream.ts'

/** The longest wait for the answer to one call, in milliseconds: containerd answers from memory and a local database. */
const CALL_TIMEOUT = 10_000
/** The longest wait for the next message of a flowing stream, in milliseconds: a disk may be slow, but not hang. */
const STALL_TIMEOUT = 15_000
/** The largest message that is accepted, in bytes: containerd's own `max_send_message_size`. */
const MESSAGE_LIMIT = 16 * 1024 * 1024

/** The header that names the containerd namespace of a call. */
const NAMESPACE_HEADER = 'containerd-namespace'

/** A name and its target, which may be missing. */
export interface ContainerdImage {
  readonly name: string
  readonly target: Descriptor
}

/** One connection to containerd, which CRI and all namespaces share. */
export type Containerd = ReturnType<typeof connectContainerd>

/**
 * containerd in one namespace. Every call ends within its bound, with the reason of its signal when that aborts, or with
 * a {@link ContainerdError}. Answers omit digests of algorithms that this mirror does not know, and images whose media
 * type is invalid.
 */
export type ContainerdClient = ReturnType<typeof clientOf>

/**
 * Speaks gRPC to the containerd behind a Unix socket. The first call makes the connection. When it breaks, its calls fail and the
 * next call makes a new one, so a restart of containerd needs no handling here.
 *
 * @param timeouts the longest waits for the answer to one call and for the next message of a stream, in milliseconds
 */
export function connectContainerd(
  socket: string,
  timeouts: { readonly callTimeout?: number; readonly stallTimeout?: number } = {},
) {
  const { callTimeout = CALL_TIMEOUT, stallTimeout = STALL_TIMEOUT } = timeouts
  const session = createSession(socket)

  function transportIn(namespace: string): Transport {
    const inNamespace: Interceptor = (next) => (request) => {
      request.header.set(NAMESPACE_HEADER, namespace)
      return next(request)
    }
    const transport = createGrpcTransport({
      baseUrl: AUTHORITY,
      sessionManager: session,
      interceptors: [inNamespace],
      // Blobs are already compressed, and the socket is local.
      acceptCompression: [],
      readMaxBytes: MESSAGE_LIMIT,
    })
    return {
      // A failure becomes a ContainerdError; an abort keeps the signal's reason.
      async unary(method, signal, timeout = callTimeout, ...rest) {
        signal?.throwIfAborted()
        try {
          return await transport.unary(method, signal, timeout, ...rest)
        } catch (error) {
          signal?.throwIfAborted()
          throw containerdError(nameOf(method), error)
        }
      },
      stream: transport.stream.bind(transport),
    }
  }

  return {
    /** The open connection, if there is one. As long as it is the same, containerd has not restarted. */
    get connection(): object | undefined {
      return session.connection
    },
    cri: criCalls(transportIn(CRI_NAMESPACE)),
    /** containerd in a namespace. It is free, and needs no closing. */
    in: (namespace: string) => clientOf(transportIn(namespace), namespace, stallTimeout),
    /** Ends the connection and every running call. Later calls fail with the code `closed`. */
    close: (): void => session.close(new ContainerdError('closed', 'the connection to containerd is closed')),
  }
}

/** The call's name for people: `Images.Get`, `CRI PullImage`. */
function nameOf({ name, parent }: DescMethod): string {
  if (parent.typeName.startsWith('runtime.')) return `CRI ${name}`
  return name === parent.name ? name : `${parent.name}.${name}`
}

function clientOf(transport: Transport, namespace: string, stallTimeout: number) {
  const images = createClient(Images, transport)
  const events = createClient(Events, transport)
  const introspection = createClient(Introspection, transport)
  const namespaces = createClient(Namespaces, transport)
  const versions = createClient(Version, transport)

  async function version(signal: AbortSignal): Promise<{ readonly version: string; readonly revision: string }> {
    return await versions.version({}, { signal })
  }

  return {
    ...contentCalls(transport, stallTimeout),
    namespace,
    version,

    async namespaces(signal: AbortSignal): Promise<string[]> {
      return (await namespaces.list({}, { signal })).namespaces.map(({ name }) => name)
    },

    /** Identifies the containerd that answers, which has another process after a restart. */
    async server(signal: AbortSignal): Promise<{ readonly uuid: string; readonly pid: number }> {
      const { uuid, pid } = await introspection.server({}, { signal })
      return { uuid, pid: numberOf(pid) }
    },

    /** Where containerd keeps content: an absolute path on its own file system; `undefined` if it does not say. */
    async contentRoot(signal: AbortSignal): Promise<string | undefined> {
      const { plugins } = await introspection.plugins({}, { signal })
      return plugins.find(({ type, id }) => type === 'io.containerd.content.v1' && id === 'content')?.exports.root
    },

    async image(name: string, signal: AbortSignal): Promise<ContainerdImage | undefined> {
      const image = (await unless('not-found', images.get({ name }, { signal })))?.image
      return image && imageOf(image)
    },

    async images(signal: AbortSignal): Promise<ContainerdImage[]> {
      const listed = await images.list({}, { signal })
      return listed.images.map(imageOf).filter((image) => image !== undefined)
    },

    /** Removes a name and the content that nothing else needs. False if there was no such name. */
    async deleteImage(name: string, signal: AbortSignal): Promise<boolean> {
      return (await unless('not-found', images.delete({ name, sync: true }, { signal }))) !== undefined
    },

    /**
     * Resolves when containerd has accepted the subscription, so that a list that is requested afterwards misses nothing: there is
     * no replay. The stream ends with an error when containerd goes away, and is not renewed.
     */
    async subscribe(topics: readonly Topic[], signal: AbortSignal): Promise<ServerStream<ContainerdEvent>> {
      const filters = eventFilters(topics, namespace)
      const begin = async function* (signal: AbortSignal) {
        for await (const envelope of events.subscribe({ filters }, { signal })) yield decodeEvent(envelope)
      }
      const stream = openStream('Events.Subscribe', begin, { signal, stallTimeout: undefined })
      try {
        // containerd answers a subscription only with the first event. A later round trip on the same connection shows that it
        // has accepted the subscription.
        await version(signal)
      } catch (error) {
        stream.cancel()
        throw error
      }
      return stream
    },
  }
}

function imageOf({ name, target }: Image): ContainerdImage | undefined {
  if (target === undefined || !isDigest(target.digest) || !isMediaType(target.mediaType)) return undefined
  return { name, target: { mediaType: target.mediaType, digest: target.digest, size: numberOf(target.size) } }
}
