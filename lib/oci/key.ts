import type { Digest } from './digest.ts'
import type { ContentTarget } from './path.ts'

/**
 * The name of content in the swarm, from which its topic is made: a digest, or `registry/repository:tag`. Only a tag's key has
 * a slash.
 */
export type Key = string & { readonly __brand: 'Key' }

export function digestKey(digest: Digest): Key {
  return digest as string as Key
}

export function tagKey(name: { readonly registry: string; readonly repository: string; readonly tag: string }): Key {
  return `${name.registry}/${name.repository}:${name.tag}` as Key
}

/** The key of the content that a request asks for: the digest if it names one, otherwise the tag. */
export function targetKey(target: ContentTarget): Key {
  return target.tag === undefined ? digestKey(target.digest) : tagKey(target)
}
