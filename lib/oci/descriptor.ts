import type { Digest } from './digest.ts'

/** What is known of a piece of content: the three required fields of an OCI descriptor. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
}
