import type { Digest } from './digest.ts'
import type { BlobTarget, ManifestTarget } from './path.ts'

/**
 * What a topic is made from: a digest, or `registry/repository:tag`. The two cannot be confused, since a digest holds
 * no slash and a tag's key always does.
 */
export type Key = string & { readonly __brand: 'Key' }

export function digestKey(digest: Digest): Key {
  return digest as string as Key
}

export function tagKey(name: { readonly registry: string; readonly repository: string; readonly tag: string }): Key {
  return `${name.registry}/${name.repository}:${name.tag}` as Key
}

/** The key of what a request is about: the digest where it names one, else the tag. */
export function targetKey(target: ManifestTarget | BlobTarget): Key {
  if (target.kind === 'blob') return digestKey(target.digest)
  const { registry, repository, reference } = target
  return 'tag' in reference ? tagKey({ registry, repository, tag: reference.tag }) : digestKey(reference.digest)
}
