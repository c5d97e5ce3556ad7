/** Bytes that are not an answer in HTTP/1.1, or that hold more than a peer's door ever sends. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

/** A connection that ended in the middle of an answer. */
export class TruncatedError extends Error {
  override readonly name = 'TruncatedError'
}

/** A connection that had been kept for the next request and ended before a byte of its answer. */
export class StaleConnectionError extends Error {
  override readonly name = 'StaleConnectionError'
}
