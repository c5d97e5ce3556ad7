import { createClient, type Transport } from '@connectrpc/connect'
import { Content } from '../../../proto/containerd/services/content/v1/content_pb.ts'
import { type Digest, isDigest } from '../../oci/digest.ts'
import { numberOf, unless } from './error.ts'
import { openStream } from './stream.ts'

/** The content store's entry for a digest. */
export interface ContentInfo {
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  readonly labels: Readonly<Record<string, string>>
}

/**
 * A client's calls about the content store.
 *
 * @param stallTimeout the longest wait for the next message of a stream, in milliseconds
 */
export function contentCalls(transport: Transport, stallTimeout: number) {
  const content = createClient(Content, transport)
  return {
    /** `undefined` if the content is not in this namespace, even if its file exists for another one. */
    async contentInfo(digest: Digest, signal: AbortSignal): Promise<ContentInfo | undefined> {
      const info = (await unless('not-found', content.info({ digest }, { signal })))?.info
      return info && { digest, size: numberOf(info.size), labels: info.labels }
    },

    async *listContent(signal: AbortSignal): AsyncIterable<ContentInfo> {
      const begin = (signal: AbortSignal) => content.list({}, { signal })
      for await (const { info } of openStream('Content.List', begin, { signal, stallTimeout })) {
        for (const { digest, size, labels } of info)
          if (isDigest(digest)) yield { digest, size: numberOf(size), labels }
      }
    },

    /**
     * Reads `size` bytes (more than 0) from `offset`, in pieces of containerd's choice (up to 1 MiB). Leaving the loop ends
     * the call.
     *
     * @throws {ContainerdError} `not-found` while iterating, if there is no such content
     */
    async *readContent(
      digest: Digest,
      { offset, size }: { readonly offset: number; readonly size: number },
      signal: AbortSignal,
    ): AsyncIterable<Uint8Array> {
      // To containerd a size of 0 means everything.
      if (size <= 0) return
      const request = { digest, offset: BigInt(offset), size: BigInt(size) }
      const begin = (signal: AbortSignal) => content.read(request, { signal })
      for await (const { data } of openStream('Content.Read', begin, { signal, stallTimeout })) yield data
    },

    /** Removes content from this namespace, even if something needs it. False if there was none of that digest. */
    async deleteContent(digest: Digest, signal: AbortSignal): Promise<boolean> {
      return (await unless('not-found', content.delete({ digest }, { signal }))) !== undefined
    },
  }
}
