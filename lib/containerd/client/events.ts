import { anyUnpack } from '@bufbuild/protobuf/wkt'
import { ContentCreateSchema, ContentDeleteSchema } from '../../../proto/containerd/events/content_pb.ts'
import type { Envelope } from '../../../proto/containerd/types/envelope_pb.ts'
import { ContainerdError } from './error.ts'

/** The types of events that name content. `/content/create` exists since containerd 2.1. */
const CONTENT = { '/content/create': ContentCreateSchema, '/content/delete': ContentDeleteSchema } as const

/** The topics that this project knows. */
export type Topic = keyof typeof CONTENT | '/images/create' | '/images/update' | '/images/delete'

/** An event in the client's namespace. */
export interface ContainerdEvent {
  readonly topic: string
  /** The content that came or went. Events of images name none, so whatever an image holds must be asked for. */
  readonly digest?: string
}

/**
 * containerd's filters for events of these topics in one namespace. The items are alternatives; a comma inside an item means
 * "and". The namespace header does not filter events, so each filter names the namespace.
 */
export function eventFilters(topics: readonly Topic[], namespace: string): string[] {
  return topics.map((topic) => `topic==${JSON.stringify(topic)},namespace==${JSON.stringify(namespace)}`)
}

/**
 * The event in an envelope.
 *
 * @throws {ContainerdError} `unexpected` if an event about content does not have its topic's type, or is not protobuf
 */
export function decodeEvent({ topic, event }: Pick<Envelope, 'topic' | 'event'>): ContainerdEvent {
  if (!isAboutContent(topic)) return { topic }
  const schema = CONTENT[topic]
  let cause: unknown
  try {
    const message = event && anyUnpack(event, schema)
    if (message !== undefined) return { topic, digest: message.digest }
  } catch (error) {
    cause = error
  }
  const problem = `expected ${schema.typeName} in an event of ${topic}, got ${event?.typeUrl || 'nothing'}`
  throw new ContainerdError('unexpected', problem, { cause })
}

function isAboutContent(topic: string): topic is keyof typeof CONTENT {
  return Object.hasOwn(CONTENT, topic)
}
