/** What stands for Content-Length where a server cannot send one for a stream: `Bun.serve` cannot. */
export const LENGTH_HEADER = 'X-Swarmirror-Length'
