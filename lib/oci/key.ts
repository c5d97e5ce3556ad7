import type { Digest } from './digest.ts'
import type { ContentTarget } from './path.ts'

/** What a topic is made from: a digest, or `registry/repository:tag`. Only a tag's key has a slash. */
export type Key = string & { readonly __brand: 'Key' }

export function digestKey(digest: Digest): Key {
  return digest as string as Key
}

export function tagKey(name: { readonly registry: string; readonly repository: string; readonly tag: string }): Key {
  return `${name.registry}/${name.repository}:${name.tag}` as Key
}

/** The key of what a request asks for: the digest where it names one, else the tag. */
export function targetKey(target: ContentTarget): Key {
  if (target.kind === 'blob') return digestKey(target.digest)
  const { registry, repository, reference } = target
  return 'tag' in reference ? tagKey({ registry, repository, tag: reference.tag }) : digestKey(reference.digest)
}
