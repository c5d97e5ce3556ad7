import { type Any, anyUnpack } from '@bufbuild/protobuf/wkt'
import { ContentCreateSchema, ContentDeleteSchema } from '../../../proto/containerd/events/content_pb.ts'
import {
  ImageCreateSchema,
  ImageDeleteSchema,
  ImageUpdateSchema,
} from '../../../proto/containerd/services/images/v1/events_pb.ts'
import { ContainerdError } from './error.ts'

/** The topics that this project knows, and the types of their events. `/content/create` exists since containerd 2.1. */
const SCHEMAS = {
  '/images/create': ImageCreateSchema,
  '/images/update': ImageUpdateSchema,
  '/images/delete': ImageDeleteSchema,
  '/content/create': ContentCreateSchema,
  '/content/delete': ContentDeleteSchema,
} as const
export type Topic = keyof typeof SCHEMAS

/** An event in the client's namespace. Image events carry only the image's name, so the client must ask for its target. */
export type ContainerdEvent =
  | { readonly kind: 'image'; readonly topic: Topic; readonly namespace: string; readonly name: string }
  | { readonly kind: 'content'; readonly topic: Topic; readonly namespace: string; readonly digest: string }

/**
 * containerd's filters for events of these topics in one namespace. The items are alternatives; a comma inside an item means
 * "and". The namespace header does not filter events, so each filter names the namespace.
 */
export function eventFilters(topics: readonly Topic[], namespace: string): string[] {
  return topics.map((topic) => `topic==${JSON.stringify(topic)},namespace==${JSON.stringify(namespace)}`)
}

/** The events of a subscription, without topics that this project does not know. */
export async function* decodeEvents(
  source: AsyncIterable<EventEnvelope>,
): AsyncGenerator<ContainerdEvent, void, undefined> {
  for await (const envelope of source) {
    const event = decodeEvent(envelope)
    if (event !== undefined) yield event
  }
}

/** The relevant fields of an envelope. */
interface EventEnvelope {
  readonly topic: string
  readonly namespace: string
  readonly event?: Any | undefined
}

/**
 * The event in an envelope; `undefined` for topics that this project does not know.
 *
 * @throws {ContainerdError} `unexpected` if the event does not have its topic's type, or is not protobuf
 */
export function decodeEvent({ topic, namespace, event }: EventEnvelope): ContainerdEvent | undefined {
  if (!isTopic(topic)) return undefined
  const message = unpack(topic, event)
  if ('name' in message) return { kind: 'image', topic, namespace, name: message.name }
  return { kind: 'content', topic, namespace, digest: message.digest }
}

function isTopic(name: string): name is Topic {
  return Object.hasOwn(SCHEMAS, name)
}

function unpack(topic: Topic, event: Any | undefined) {
  const schema = SCHEMAS[topic]
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
