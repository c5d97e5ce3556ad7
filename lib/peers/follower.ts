/**
 * Says that a request follows: it may be answered with content that is still being written. Its value is the address of the
 * asker's own peer door.
 */
export const FOLLOWER_HEADER = 'X-Swarmirror-Follower'
