import type { Hono } from 'hono'
import type { ContentStore } from '../store/store.ts'
import { createDoor, type DoorDependencies } from './door.ts'
import { answerLocally } from './local.ts'

/**
 * The door for other nodes: this node's own content and nothing else. It is made without a way to other peers, so a
 * request cannot travel in a circle.
 */
export function createPeerDoor({ store, ...rest }: DoorDependencies & { readonly store: ContentStore }): Hono {
  return createDoor('peer', rest, (target, request) => answerLocally(store, target, request))
}
