/**
 * The error codes of the OCI distribution-spec 1.1 ("Error Codes") that do not concern a push, with their HTTP status, and
 * UNKNOWN for failures of this mirror.
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

/** The code for a malformed tag, for which the spec has no code. */
export const TAG_INVALID: OciErrorCode = 'MANIFEST_INVALID'

/** A failure as clients of the registry API see it: a code of the spec's table and a message for people. */
export class OciError extends Error {
  override readonly name = 'OciError'
  readonly code: OciErrorCode
  readonly status: number

  constructor(code: OciErrorCode, message: string, options: { status?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.status = options.status ?? STATUS[code]
  }

  /** The body that the distribution-spec defines for errors. */
  toJSON(): { errors: { code: OciErrorCode; message: string }[] } {
    return { errors: [{ code: this.code, message: this.message }] }
  }
}

/** The response for an error, in the form of the distribution-spec. */
export function errorAnswer(error: OciError, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify(error)
  const length = String(Buffer.byteLength(body))
  return new Response(body, {
    status: error.status,
    headers: { 'Content-Type': 'application/json', 'Content-Length': length, ...headers },
  })
}

/** Longest text that an error echoes, in characters: enough to recognise a mistake, too little to abuse. */
const ECHO_LIMIT = 80

/** Text of a client for an error message, quoted and cut. */
export function echo(text: string): string {
  return JSON.stringify(text.length > ECHO_LIMIT ? `${text.slice(0, ECHO_LIMIT)}...` : text)
}
