import type { ConnectError } from '@connectrpc/connect'

/** What went wrong, for programs. The message quotes containerd, the cause is the transport's error. */
export type ContainerdErrorCode =
  | 'not-found'
  | 'unavailable'
  | 'timeout'
  | 'closed'
  | 'denied'
  | 'unsupported'
  | 'unexpected'

/** A call to containerd that failed. */
export class ContainerdError extends Error {
  override readonly name = 'ContainerdError'
  readonly code: ContainerdErrorCode

  constructor(code: ContainerdErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
  }
}

/** Whether waiting cannot help. */
export function isLasting({ code }: ContainerdError): boolean {
  return code === 'denied' || code === 'unsupported' || code === 'unexpected'
}

/** Our names for gRPC's status codes. Those that containerd does not use for these calls stay `unexpected`. */
const CODES: ReadonlyMap<number, ContainerdErrorCode> = new Map([
  // A stream ends like this when containerd dies (CANCELLED, ABORTED). The caller's own cancellation ends with the signal's reason
  // instead.
  [1, 'unavailable'],
  [10, 'unavailable'],
  [4, 'timeout'],
  [5, 'not-found'],
  [7, 'denied'],
  [12, 'unsupported'],
  [14, 'unavailable'],
])

/** Recognizes connect's errors by their form: a mirror without containerd does not load connect, which takes 8 MiB. */
function isConnectError(error: unknown): error is ConnectError {
  return error instanceof Error && error.name === 'ConnectError' && 'code' in error && 'rawMessage' in error
}

/** System errors of a Unix socket that does not answer: it does not exist, nobody listens, or the other end went away. */
const GONE = new Set(['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ENOTSOCK'])

/** System errors of a socket that this user may not use. */
const FORBIDDEN = new Set(['EACCES', 'EPERM'])

/**
 * Turns what a call threw into a {@link ContainerdError}, unless it is one already.
 *
 * @param call the call's name, for the message
 */
export function containerdError(call: string, error: unknown): ContainerdError {
  const known = causes(error)
  const own = known.find((cause) => cause instanceof ContainerdError)
  if (own !== undefined) return own
  const text = isConnectError(error) ? error.rawMessage : String(error)
  return new ContainerdError(codeOf(error, known), `containerd ${call}: ${text}`, { cause: error })
}

function codeOf(error: unknown, known: readonly Error[]): ContainerdErrorCode {
  const system = known.flatMap((cause) => ('code' in cause && typeof cause.code === 'string' ? cause.code : []))
  if (system.some((code) => FORBIDDEN.has(code))) return 'denied'
  if (known.some(isOtherProtocol)) return 'unexpected'
  if (system.some((code) => GONE.has(code) || code.startsWith('ERR_HTTP2_'))) return 'unavailable'
  return (isConnectError(error) ? CODES.get(error.code) : undefined) ?? 'unexpected'
}

/** Whether the other end speaks something other than HTTP/2 (nghttp2's error -505, on every runtime). */
function isOtherProtocol(error: Error): boolean {
  return 'code' in error && error.code === 'ERR_HTTP2_ERROR' && 'errno' in error && error.errno === -505
}

/** The error and its causes, outermost first, each once. */
function causes(error: unknown): Error[] {
  const found: Error[] = []
  for (let next = error; next instanceof Error && !found.includes(next); next = next.cause) found.push(next)
  return found
}

/** The answer of a call; `undefined` if it fails with that code. */
export async function unless<T>(code: ContainerdErrorCode, answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof ContainerdError && error.code === code) return undefined
    throw error
  }
}

/** A 64-bit count or size as a number. */
export function numberOf(value: bigint): number {
  const number = Number(value)
  if (Number.isSafeInteger(number) && number >= 0) return number
  throw new ContainerdError('unexpected', `containerd gave ${value} where a count was expected`)
}
