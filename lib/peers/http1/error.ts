/** A connection that ended in the middle of an answer. */
export class TruncatedError extends Error {
  override readonly name = 'TruncatedError'
}

/** A connection that had been kept for the next request and ended before a byte of its answer. */
export class StaleConnectionError extends Error {
  override readonly name = 'StaleConnectionError'
}
