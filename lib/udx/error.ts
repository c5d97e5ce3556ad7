/** Why a stream broke; the codes are those of the addon, on which hyperdht and its users rely. */
export type UdxErrorCode = 'ECONNRESET' | 'ETIMEDOUT' | 'ENOTCONN'

const MESSAGES: Readonly<Record<UdxErrorCode, string>> = {
  ECONNRESET: 'connection reset by peer',
  ETIMEDOUT: 'connection timed out',
  ENOTCONN: 'stream is not connected',
}

export class UdxError extends Error {
  override readonly name = 'UdxError'
  readonly code: UdxErrorCode

  constructor(code: UdxErrorCode) {
    super(MESSAGES[code])
    this.code = code
  }
}
