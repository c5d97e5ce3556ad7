/**
 * The error codes of the OCI distribution-spec 1.1 ("Error Codes") that are not about a push, with their HTTP status, and
 * UNKNOWN for our own failures.
 */
const STATUS = {
  BLOB_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
  UNKNOWN: 500,
} as const

export type OciErrorCode = keyof typeof STATUS

/** The code for a malformed tag: the spec's table has none of its own for it. */
export const TAG_INVALID: OciErrorCode = 'MANIFEST_INVALID'

/** A failure that a client of the registry API is told: a code of the spec's table and a message for people. */
export class OciError extends Error {
  override readonly name = 'OciError'
  readonly code: OciErrorCode
  readonly status: number
  /** What the message is about, for programs: the body's `detail`. */
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

/** An error in the form of the distribution-spec. */
export function errorAnswer(error: OciError, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify(error)
  const length = String(Buffer.byteLength(body))
  return new Response(body, {
    status: error.status,
    headers: { 'Content-Type': 'application/json', 'Content-Length': length, ...headers },
  })
}

/** Longest text echoed in an error, in characters: enough to recognise a mistake, too little to abuse. */
const ECHO_LIMIT = 80

/** A text of a client, quoted and cut, for a message. */
export function echo(text: string): string {
  return JSON.stringify(text.length > ECHO_LIMIT ? `${text.slice(0, ECHO_LIMIT)}...` : text)
}
