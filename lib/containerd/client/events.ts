import { ContainerdError } from './error.ts'
import { contentEvent, type Envelope, imageEvent } from './messages.ts'

/** The topics that this project knows, and the types of their events. `/content/create` exists since containerd 2.1. */
const TYPES = {
  '/images/create': 'containerd.services.images.v1.ImageCreate',
  '/images/update': 'containerd.services.images.v1.ImageUpdate',
  '/images/delete': 'containerd.services.images.v1.ImageDelete',
  '/content/create': 'containerd.events.ContentCreate',
  '/content/delete': 'containerd.events.ContentDelete',
} as const
export type Topic = keyof typeof TYPES

/** An event in the client's namespace. Image events carry the image's name only: what it points to must be asked. */
export type ContainerdEvent =
  | { readonly kind: 'image'; readonly topic: Topic; readonly namespace: string; readonly name: string }
  | { readonly kind: 'content'; readonly topic: Topic; readonly namespace: string; readonly digest: string }

/**
 * containerd's filters for events of these topics in one namespace: the items are alternatives, a comma inside an item
 * means "and". The namespace header does not filter events, so each filter names it.
 */
export function eventFilters(topics: readonly Topic[], namespace: string): string[] {
  return topics.map((topic) => `topic==${JSON.stringify(topic)},namespace==${JSON.stringify(namespace)}`)
}

/** What the envelopes of a subscription say, without the topics that this project does not know. */
export async function* decodeEvents(source: AsyncIterable<Envelope>): AsyncGenerator<ContainerdEvent, void, undefined> {
  for await (const envelope of source) {
    const event = decodeEvent(envelope)
    if (event !== undefined) yield event
  }
}

/**
 * What an envelope says; `undefined` for topics that this project does not know.
 *
 * @throws {ContainerdError} `unexpected` if the event is not of its topic's type, or not protobuf
 */
export function decodeEvent({ topic, namespace, event }: Envelope): ContainerdEvent | undefined {
  if (!isTopic(topic)) return undefined
  let cause: unknown
  try {
    if (event?.typeUrl.split('/').at(-1) === TYPES[topic]) {
      if (topic.startsWith('/images/')) return { kind: 'image', topic, namespace, ...imageEvent.read(event.value) }
      return { kind: 'content', topic, namespace, ...contentEvent.read(event.value) }
    }
  } catch (error) {
    cause = error
  }
  const problem = `expected ${TYPES[topic]} in an event of ${topic}, got ${event?.typeUrl || 'nothing'}`
  throw new ContainerdError('unexpected', problem, { cause })
}

function isTopic(name: string): name is Topic {
  return Object.hasOwn(TYPES, name)
}
