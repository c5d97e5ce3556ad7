import { echo, OciError } from './error.ts'

/** A digest in the form `algorithm:hex`, checked by {@link parseDigest}. */
export type Digest = string & { readonly __brand: 'Digest' }

/** The three required fields of an OCI descriptor. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
}

/** The registered algorithms of the OCI image-spec ("Digests") that this mirror accepts, and the length of their hex. */
const HEX_LENGTH: Readonly<Record<string, number>> = { sha256: 64, sha512: 128 }

/**
 * Reads a digest. Accepts only `sha256:` with 64 and `sha512:` with 128 lower-case hex digits.
 *
 * @throws {OciError} DIGEST_INVALID, with what is accepted
 */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text
  const accepted = 'accepted are sha256:<64 hex> and sha512:<128 hex>, in lower case'
  throw new OciError('DIGEST_INVALID', `invalid digest ${echo(text)}; ${accepted}`)
}

/** Whether the text is a digest that {@link parseDigest} accepts. */
export function isDigest(text: string): text is Digest {
  const length = HEX_LENGTH[text.slice(0, 6)]
  return length !== undefined && text.length === length + 7 && /^[0-9a-f]+$/.test(text.slice(7)) && text[6] === ':'
}

/** The name of the algorithm, as `node:crypto` takes it: `sha256` or `sha512`. */
export function algorithmOf(digest: Digest): string {
  return digest.slice(0, digest.indexOf(':'))
}

/** The hexadecimal part. */
export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}
