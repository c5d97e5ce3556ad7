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
 * @throws {OciError} DIGEST_INVALID, with what is wrong and what is accepted
 */
export function parseDigest(text: string): Digest {
  const colon = text.indexOf(':')
  if (colon < 0) throw invalid(text, 'no algorithm before a colon')
  const algorithm = text.slice(0, colon)
  const length = Object.hasOwn(HEX_LENGTH, algorithm) ? HEX_LENGTH[algorithm] : undefined
  if (length === undefined) throw invalid(text, 'unsupported algorithm')
  const hex = text.slice(colon + 1)
  if (hex.length !== length) throw invalid(text, `${hex.length} characters after the colon, expected ${length}`)
  if (!/^[0-9a-f]+$/.test(hex)) throw invalid(text, 'expected lower-case hexadecimal digits after the colon')
  return text as Digest
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

function invalid(text: string, problem: string): OciError {
  const accepted = 'accepted are sha256:<64 hex> and sha512:<128 hex>'
  return new OciError('DIGEST_INVALID', `invalid digest ${echo(text)}: ${problem}; ${accepted}`)
}
