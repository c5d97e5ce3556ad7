import type { Digest } from '../oci/digest.ts'
import type { Key } from '../oci/key.ts'
import type { ContentTarget } from '../oci/path.ts'
import type { Peer, Router } from '../swarm/router.ts'

/** A peer that may give content. */
export interface Source extends Peer {
  /** It does not hold the content yet, it is getting it: its bytes can be had as they come. */
  readonly isArriving?: true
}

/** What a peer says of content that it was getting. */
export type SourceState =
  /** It is being written there: the bytes so far, and in all if that is known. `leads`: it gets it from upstream. */
  | { readonly kind: 'arriving'; readonly written: number; readonly size?: number | undefined; readonly leads: boolean }
  /** It is complete there. */
  | { readonly kind: 'held' }
  /** The same, and it will have its turn before this node could do anything better. In bytes. */
  | { readonly kind: 'waiting'; readonly size: number }
  /** Its client was told to go upstream, or to ask again, and its turn has not come. */
  | { readonly kind: 'later' }
  /** It will not come there. */
  | { readonly kind: 'gone' }

/** Who has content, or is getting it; and so who goes upstream for what nobody has. */
export interface Flight {
  /**
   * As {@link Router.lookup}: peers that hold what the key names, and at most one that is getting it, if nobody else is found.
   * Without any, this node may go upstream, and others are sent to it. To be asked by a client's GET only, since it is a
   * claim. It ends by itself.
   *
   * @param target what the client asks for
   */
  sources(key: Key, signal: AbortSignal, target?: ContentTarget): AsyncIterable<Source>

  /** Only those that hold it, for who asks without pulling it: nobody is sent there. It ends by itself. */
  holders(key: Key, signal: AbortSignal): AsyncIterable<Peer>

  /** Asks a peer that was named as getting the digest how far it is: one datagram. `undefined` if it does not answer in time. */
  state(peer: Peer, digest: Digest, signal: AbortSignal): Promise<SourceState | undefined>

  /**
   * Tells that a peer that was named as getting the digest is given up: it is not named again for a while.
   *
   * @param isRefused whether it lives, and gives to another node: it is not named again for a moment
   */
  left(peer: Peer, digest: Digest, isRefused?: boolean): void

  /** Whether that was told a short while ago: the peer is not worth asking, whoever names it. */
  hasLeft(peer: Peer, digest: Digest): boolean

  /**
   * From whom the digest had better come than from the peer that is followed now, told once: somebody who is getting it, and
   * fewer others are between that one and upstream; or one of many who have it by now.
   */
  better(digest: Digest): Source | undefined

  /** Tells that what came from a peer that was getting the digest is something else. */
  wrong(digest: Digest): void

  /**
   * Waits while another node gets it from upstream whom nobody may follow, since bytes were wrong before: for a while.
   *
   * @returns whether this is over, so that others had better be looked for again
   */
  verified(digest: Digest, signal: AbortSignal): Promise<boolean>

  /**
   * Tells that nobody gives the digest now. The client goes upstream for it, or for the rest of it. But where it would have to
   * wait for its turn there, or for a peer whose turn has not come, it had better ask again.
   *
   * @param mayReturn whether the client can be told to ask again
   * @returns the size of the content in bytes, if the client is to ask again; `undefined` if it is to go upstream
   */
  missed(digest: Digest, mayReturn: boolean): number | undefined
}

/** The flight of a node that takes no part in any: who has content, the router says. */
export function withoutFlight(router: Pick<Router, 'lookup'>): Flight {
  const lookup: Router['lookup'] = (key, signal) => router.lookup(key, signal)
  return {
    sources: lookup,
    holders: lookup,
    state: async () => undefined,
    left: () => undefined,
    better: () => undefined,
    wrong: () => undefined,
    hasLeft: () => false,
    verified: async () => false,
    missed: () => undefined,
  }
}
