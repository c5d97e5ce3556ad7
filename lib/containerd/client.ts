import type { DescMessage, MessageShape } from '@bufbuild/protobuf'
import { type Any, anyUnpack } from '@bufbuild/protobuf/wkt'
import { createClient } from '@connectrpc/connect'
import { ContentCreateSchema, ContentDeleteSchema } from '../../proto/containerd/events/content_pb.ts'
import { Content } from '../../proto/containerd/services/content/v1/content_pb.ts'
import { Events } from '../../proto/containerd/services/events/v1/events_pb.ts'
import {
  ImageCreateSchema,
  ImageDeleteSchema,
  ImageUpdateSchema,
} from '../../proto/containerd/services/images/v1/events_pb.ts'
import { type Image as ImageMessage, Images } from '../../proto/containerd/services/images/v1/images_pb.ts'
import { Introspection } from '../../proto/containerd/services/introspection/v1/introspection_pb.ts'
import { Namespaces } from '../../proto/containerd/services/namespaces/v1/namespace_pb.ts'
import { Version } from '../../proto/containerd/services/version/v1/version_pb.ts'
import type { Descriptor } from '../oci/descriptor.ts'
import { type Digest, isDigest } from '../oci/digest.ts'
import { ContainerdError, containerdError } from './error.ts'
import { type ContainerdEvent, eventFilters, type Topic } from './event.ts'
import { openStream, type ServerStream } from './stream.ts'
import { createContainerdTransport, type TransportOptions } from './transport.ts'

/** Longest wait in milliseconds for the next message of a stream that should be flowing: a disk that hangs, not one that is slow. */
export const STALL_TIMEOUT = 15_000

/** What the content store has under a digest. */
export interface ContentInfo {
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  readonly labels: Readonly<Record<string, string>>
}

/** A name and what it points to. The target need not be there. */
export interface Image {
  readonly name: string
  readonly target: Descriptor
}

/** Where containerd keeps content, and whether a namespace sees what another one pulled; `undefined` if it does not say. */
export interface ContentPlacement {
  /** An absolute path on containerd's own file system. */
  readonly root: string | undefined
  /** `shared` or `isolated`: `content_sharing_policy`. */
  readonly policy: string | undefined
}

export interface ClientOptions extends TransportOptions {
  /** Longest wait for the next message while listing or reading content, in milliseconds. */
  readonly stallTimeout?: number
}

/**
 * containerd in one namespace. Every call ends within its bound, with the reason of its signal when that aborts, or with
 * a {@link ContainerdError}. Digests of algorithms that this mirror does not speak are left out of all answers.
 */
export interface ContainerdClient {
  readonly namespace: string
  version(signal: AbortSignal): Promise<{ readonly version: string; readonly revision: string }>
  namespaces(signal: AbortSignal): Promise<string[]>
  contentPlacement(signal: AbortSignal): Promise<ContentPlacement>
  /** `undefined` if the content is not in this namespace, even if its file is there for another one. */
  contentInfo(digest: Digest, signal: AbortSignal): Promise<ContentInfo | undefined>
  listContent(signal: AbortSignal): AsyncIterable<ContentInfo>
  /**
   * Reads `size` bytes (more than 0) from `offset`, in pieces of containerd's choice (up to 1 MiB). Leaving the loop ends the call.
   *
   * @throws {ContainerdError} `not-found` while iterating, if the content is not there
   */
  readContent(
    digest: Digest,
    range: { readonly offset: number; readonly size: number },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>
  image(name: string, signal: AbortSignal): Promise<Image | undefined>
  images(signal: AbortSignal): Promise<Image[]>
  /**
   * Resolves when containerd has taken up the subscription, so that a list asked for afterwards misses nothing: there is
   * no replay. The stream ends with an error when containerd goes away; it is not renewed.
   */
  subscribe(topics: readonly Topic[], signal: AbortSignal): Promise<ServerStream<ContainerdEvent>>
  /** Ends the connection and with it every running call. */
  close(): void
}

/** Makes a client; the connection is made, and made again after a break, by the calls. */
export function createContainerdClient(
  target: { readonly socket: string; readonly namespace: string },
  options: ClientOptions = {},
): ContainerdClient {
  const { stallTimeout = STALL_TIMEOUT } = options
  const { transport, close } = createContainerdTransport(target, options)
  const content = createClient(Content, transport)
  const images = createClient(Images, transport)
  const events = createClient(Events, transport)
  const introspection = createClient(Introspection, transport)
  const namespaces = createClient(Namespaces, transport)
  const version = createClient(Version, transport)

  async function plugin(type: string, id: string, signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    const filters = [`type==${type},id==${id}`]
    const answer = await call('Introspection.Plugins', signal, () => introspection.plugins({ filters }, { signal }))
    return answer.plugins[0]?.exports ?? {}
  }

  const client: ContainerdClient = {
    namespace: target.namespace,

    async version(signal) {
      const answer = await call('Version', signal, () => version.version({}, { signal }))
      return { version: answer.version, revision: answer.revision }
    },

    async namespaces(signal) {
      const answer = await call('Namespaces.List', signal, () => namespaces.list({}, { signal }))
      return answer.namespaces.map(({ name }) => name)
    },

    async contentPlacement(signal) {
      const content = await plugin('io.containerd.content.v1', 'content', signal)
      const metadata = await plugin('io.containerd.metadata.v1', 'bolt', signal)
      return { root: content.root, policy: metadata.policy }
    },

    async contentInfo(digest, signal) {
      const answer = await found('Content.Info', signal, () => content.info({ digest }, { signal }))
      return answer?.info && { digest, size: count(answer.info.size), labels: answer.info.labels }
    },

    async *listContent(signal) {
      const begin = (signal: AbortSignal) => content.list({}, { signal })
      for await (const { info } of openStream('Content.List', begin, { signal, stallTimeout })) {
        for (const { digest, size, labels } of info) if (isDigest(digest)) yield { digest, size: count(size), labels }
      }
    },

    async *readContent(digest, { offset, size }, signal) {
      // To containerd a size of 0 means everything.
      if (size <= 0) return
      const request = { digest, offset: BigInt(offset), size: BigInt(size) }
      const begin = (signal: AbortSignal) => content.read(request, { signal })
      for await (const { data } of openStream('Content.Read', begin, { signal, stallTimeout })) yield data
    },

    async image(name, signal) {
      const answer = await found('Images.Get', signal, () => images.get({ name }, { signal }))
      return answer?.image && imageOf(answer.image)
    },

    async images(signal) {
      const answer = await call('Images.List', signal, () => images.list({}, { signal }))
      return answer.images.map(imageOf).filter((image) => image !== undefined)
    },

    async subscribe(topics, signal) {
      const filters = eventFilters(topics, target.namespace)
      const begin = (signal: AbortSignal) => envelopes(events.subscribe({ filters }, { signal }))
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

    close,
  }
  return client
}

async function* envelopes(source: AsyncIterable<EventEnvelope>): AsyncGenerator<ContainerdEvent, void, undefined> {
  for await (const envelope of source) {
    const event = decodeEvent(envelope)
    if (event !== undefined) yield event
  }
}

/** The fields of an envelope that matter here. */
interface EventEnvelope {
  readonly topic: string
  readonly namespace: string
  readonly event?: Any | undefined
}

/**
 * What an envelope says; `undefined` for topics that this project does not know.
 *
 * @throws {ContainerdError} `unexpected` if the event is not of its topic's type, or not protobuf
 */
export function decodeEvent({ topic, namespace, event }: EventEnvelope): ContainerdEvent | undefined {
  switch (topic) {
    case '/images/create':
      return { kind: 'image', topic, namespace, name: unpack(ImageCreateSchema, topic, event).name }
    case '/images/update':
      return { kind: 'image', topic, namespace, name: unpack(ImageUpdateSchema, topic, event).name }
    case '/images/delete':
      return { kind: 'image', topic, namespace, name: unpack(ImageDeleteSchema, topic, event).name }
    case '/content/create':
      return { kind: 'content', topic, namespace, digest: unpack(ContentCreateSchema, topic, event).digest }
    case '/content/delete':
      return { kind: 'content', topic, namespace, digest: unpack(ContentDeleteSchema, topic, event).digest }
    default:
      return undefined
  }
}

function unpack<T extends DescMessage>(schema: T, topic: string, event: Any | undefined): MessageShape<T> {
  let cause: unknown
  try {
    const message = event && anyUnpack(event, schema)
    if (message !== undefined) return message
  } catch (error) {
    cause = error
  }
  const problem = `expected ${schema.typeName} in an event of ${topic}, got ${event?.typeUrl || 'nothing'}`
  throw new ContainerdError('unexpected', problem, { cause })
}

function imageOf({ name, target }: ImageMessage): Image | undefined {
  if (target === undefined || !isDigest(target.digest)) return undefined
  return { name, target: { mediaType: target.mediaType, digest: target.digest, size: count(target.size) } }
}

/** A 64-bit count as a number. */
function count(value: bigint): number {
  const number = Number(value)
  if (Number.isSafeInteger(number) && number >= 0) return number
  throw new ContainerdError('unexpected', `containerd gave ${value} where a size was expected`)
}

/** Makes one unary call; failures get their name, an abort keeps the signal's reason. */
async function call<T>(name: string, signal: AbortSignal, make: () => Promise<T>): Promise<T> {
  signal.throwIfAborted()
  try {
    return await make()
  } catch (error) {
    signal.throwIfAborted()
    throw containerdError(name, error)
  }
}

/** Like {@link call}, with `undefined` for what is not there. */
async function found<T>(name: string, signal: AbortSignal, make: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call(name, signal, make)
  } catch (error) {
    if (error instanceof ContainerdError && error.code === 'not-found') return undefined
    throw error
  }
}
