import type { MiddlewareHandler } from 'hono'
import type { Descriptor } from '../oci/digest.ts'
import type { ContentTarget } from '../oci/path.ts'
import type { Admission } from '../platform/listener.ts'

/** What the middlewares of a door know of a request, beside the request itself. */
export interface DoorEnv {
  Bindings: { readonly admission?: Admission | undefined }
  Variables: {
    /** What it asks for; set for every request of content, and only for those. */
    target: ContentTarget
    /** Whether upstream is to answer it, and so this mirror does not. */
    isForUpstream?: boolean
    /** What its answer gives; missing where that has no content. */
    content?: GivenContent
  }
}

export interface GivenContent {
  /** This node, or another one. */
  readonly source: 'local' | 'peer'
  /** Bytes of the body, as declared; 0 for HEAD. */
  readonly bytes: number
  /** Of the whole content. */
  readonly descriptor: Descriptor
}

export type DoorMiddleware = MiddlewareHandler<DoorEnv>
