import type { Digest } from '../oci/digest.ts'
import type { Key } from '../oci/key.ts'
import type { ContentTarget } from '../oci/path.ts'
import type { Peer, Router } from '../swarm/router.ts'
import type { Answer } from './message.ts'

/** A peer that may give content. */
export interface Source extends Peer {
  /** It does not hold the content yet, but is getting it, and passes its bytes on as they come. */
  readonly isArriving?: true
  /** How many nodes may be above it, one behind the other, if it has no byte yet; if missing, few. */
  readonly crowd?: number
}

/**
 * What a peer says about content that it was getting. `waiting`: its turn has not come, but will come before this node could do
 * anything better; `size` in bytes.
 */
export type SourceState =
  | Extract<Answer, { kind: 'arriving' | 'held' | 'later' | 'gone' }>
  | { readonly kind: 'waiting'; readonly size: number }

/** Knows who holds content and who is getting it, and so decides who goes upstream for what nobody holds. */
export interface Flight {
  /**
   * Like {@link Router.lookup}: peers that hold the content, and then, if those do not suffice, one that is getting it. If it
   * yields none, this node may go upstream, and others are sent to it. This is a claim, so only a GET of containerd may ask. It
   * ends by itself.
   *
   * @param target what containerd asks for
   */
  sources(key: Key, signal: AbortSignal, target?: ContentTarget): AsyncIterable<Source>

  /** Only peers that hold it. This is no claim: for requests that do not pull. It ends by itself. */
  holders(key: Key, signal: AbortSignal): AsyncIterable<Peer>

  /** Asks a peer that is getting the digest how far it is, with one datagram. `undefined` if it does not answer in time. */
  state(peer: Peer, digest: Digest, signal: AbortSignal): Promise<SourceState | undefined>

  /**
   * This node gave up a peer that was to give it the digest. Keepers do not name that peer to it for a while.
   *
   * @param isRefused whether the peer is well, but busy with another follower or without the content; then it may be named again in
   *   a moment
   * @returns whether somebody else may be named now
   */
  left(peer: Peer, digest: Digest, isRefused?: boolean): boolean

  /** Whether this node left the peer a short while ago: then it is not worth asking, whoever names it. */
  hasLeft(peer: Peer, digest: Digest): boolean

  /**
   * A better source than the parent, told once: a node with fewer others between it and upstream, or one of many that hold the
   * content by now.
   */
  better(digest: Digest): Source | undefined

  /** The bytes that came from a parent do not match the digest. */
  wrong(digest: Digest): void

  /**
   * After wrong bytes, waits for a while until another node has verified content from upstream.
   *
   * @returns whether it is worth looking for sources again
   */
  verified(digest: Digest, signal: AbortSignal): Promise<boolean>

  /**
   * No peer gives the digest now, so containerd goes upstream for it, or for the rest of it. If it would only wait for its turn
   * there, it had better ask again.
   *
   * @param mayReturn whether containerd can be told to ask again
   * @returns the size of the content in bytes, if containerd is to ask again; `undefined` if it is to go upstream
   */
  missed(digest: Digest, mayReturn: boolean): number | undefined
}

/** The flight of a node that takes no part in any: it knows only what the router finds. */
export function withoutFlight(router: Pick<Router, 'lookup'>): Flight {
  const lookup: Router['lookup'] = (key, signal) => router.lookup(key, signal)
  return {
    sources: lookup,
    holders: lookup,
    state: async () => undefined,
    left: () => false,
    better: () => undefined,
    wrong: () => undefined,
    hasLeft: () => false,
    verified: async () => false,
    missed: () => undefined,
  }
}
