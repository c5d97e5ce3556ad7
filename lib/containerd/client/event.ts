/** The topics that this project listens to. `/content/create` exists since containerd 2.1. */
export type Topic = '/images/create' | '/images/update' | '/images/delete' | '/content/create' | '/content/delete'

/** An event in the client's namespace. Image events carry the image's name only: what it points to must be asked. */
export type ContainerdEvent =
  | { readonly kind: 'image'; readonly topic: Topic; readonly namespace: string; readonly name: string }
  | { readonly kind: 'content'; readonly topic: Topic; readonly namespace: string; readonly digest: string }

/**
 * containerd's filters for events of these topics in one namespace: the items are alternatives, a comma inside an item
 * means "and". The namespace header does not filter events, so it must be said here.
 */
export function eventFilters(topics: readonly Topic[], namespace: string): string[] {
  return topics.map((topic) => `topic==${JSON.stringify(topic)},namespace==${JSON.stringify(namespace)}`)
}
