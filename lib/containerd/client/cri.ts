import { createClient, type Transport } from '@connectrpc/connect'
import { ImageService, RuntimeService } from '../../../proto/runtime/v1/cri_pb.ts'

/** The namespace of everything that CRI does. */
export const CRI_NAMESPACE = 'k8s.io'

/** Longest time for a pull in milliseconds, where the signal does not end it before: half of containerd's own patience. */
const PULL_TIMEOUT = 150_000

/**
 * The kubelet's side of the Container Runtime Interface, as far as a check needs it. Every call ends within its bound,
 * with the reason of its signal when that aborts, or with a ContainerdError: `unsupported` where the CRI plugin does not run.
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
    /** Pulls as the kubelet does, for as long as the signal lets it. */
    async pullImage(reference: string, signal: AbortSignal): Promise<void> {
      await images.pullImage({ image: { image: reference } }, { signal, timeoutMs: PULL_TIMEOUT })
    },
    /** Removes the image with all of its names. CRI makes an image that is not there no error. */
    async removeImage(reference: string, signal: AbortSignal): Promise<void> {
      await images.removeImage({ image: { image: reference } }, { signal })
    },
  }
}
