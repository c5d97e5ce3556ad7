import type { Digest } from './digest.ts'

/** The three required fields of an OCI descriptor. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
}
