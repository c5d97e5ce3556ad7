/**
 * The error table of the OCI distribution-spec 1.1 ("Error Codes"), with the HTTP status that goes with each code
 * and UNKNOWN for what is our own failure.
 */
const STATUS = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 404,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
  UNKNOWN: 500,
} as const

export type OciErrorCode = keyof typeof STATUS

/** The code for a reference that is not a tag of the accepted form: the spec's table has none of its own for it. */
export const TAG_INVALID: OciErrorCode = 'MANIFEST_INVALID'

/** A failure that the client of the registry API is told about: a code of the spec's table and a message for people. */
export class OciError extends Error {
  override readonly name = 'OciError'
  readonly code: OciErrorCode
  readonly status: number
  /** What the message talks about, for programs; goes into the body's `detail`. */
  readonly detail: unknown

  constructor(
    code: OciErrorCode,
    message: string,
    options: { detail?: unknown; status?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.status = options.status ?? STATUS[code]
    this.detail = options.detail
  }

  /** The body that the distribution-spec defines for errors. */
  toJSON(): { errors: { code: OciErrorCode; message: string; detail?: unknown }[] } {
    const detail = this.detail === undefined ? {} : { detail: this.detail }
    return { errors: [{ code: this.code, message: this.message, ...detail }] }
  }
}
