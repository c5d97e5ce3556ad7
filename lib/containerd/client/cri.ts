import { createClient, type Transport } from '@connectrpc/connect'
import { ImageService, RuntimeService } from '../../../proto/runtime/v1/cri_pb.ts'

/** The namespace of everything in CRI. */
export const CRI_NAMESPACE = 'k8s.io'

/** The longest time for a pull, in milliseconds, unless the signal ends it earlier: half of containerd's own patience. */
const PULL_TIMEOUT = 150_000

/**
 * The kubelet's side of the Container Runtime Interface, as far as a check needs it. Every call ends within its bound, with the
 * reason of its signal when that aborts, or with a ContainerdError: `unsupported` if the CRI plugin does not run.
 */
export type CriClient = ReturnType<typeof criCalls>

export function criCalls(transport: Transport) {
  const runtime = createClient(RuntimeService, transport)
  const images = createClient(ImageService, transport)
  return {
    async version(signal: AbortSignal): Promise<{ readonly name: string; readonly version: string }> {
      const answer = await runtime.version({}, { signal })
      return { name: answer.runtimeName, version: answer.runtimeVersion }
    },
    /** Pulls as the kubelet does, until the signal aborts. */
    async pullImage(reference: string, signal: AbortSignal): Promise<void> {
      await images.pullImage({ image: { image: reference } }, { signal, timeoutMs: PULL_TIMEOUT })
    },
    /** Removes the image with all its names. A missing image is no error in CRI. */
    async removeImage(reference: string, signal: AbortSignal): Promise<void> {
      await images.removeImage({ image: { image: reference } }, { signal })
    },
  }
}
