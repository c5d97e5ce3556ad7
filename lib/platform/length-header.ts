/**
 * The length of a body that is sent in chunks, of which HTTP does not tell it: `Bun.serve` sends every stream so, and drops
 * the Content-Length that its response has.
 */
export const LENGTH_HEADER = 'X-Swarmirror-Length'
