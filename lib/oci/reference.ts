import type { Digest } from './digest.ts'

/** An image's name in full: `registry` with its port, `repository`, and a tag, a digest, or both. */
export interface Reference {
  readonly registry: string
  readonly repository: string
  readonly tag?: string
  readonly digest?: Digest
}

/** A reference of which the tag is known to be there. */
export interface TaggedReference {
  readonly registry: string
  readonly repository: string
  readonly tag: string
}
