import type { PeerFailure } from './standing.ts'

/** The failure of a peer that did not answer, or not correctly. */
export class PeerError extends Error {
  override readonly name: string = 'PeerError'
  readonly failure: PeerFailure

  constructor(message: string, options: ErrorOptions & { readonly failure?: PeerFailure } = {}) {
    super(message, options)
    this.failure = options.failure ?? 'unreachable'
  }
}
