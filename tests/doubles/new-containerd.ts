import type { Containerd, ContainerdClient } from '../../lib/containerd/client/client.ts'
import type { CriClient } from '../../lib/containerd/client/cri.ts'
import { ContainerdError } from '../../lib/containerd/client/error.ts'

/** A new containerd, whose configuration only its files tell. */
export function newContainerd(version: ContainerdClient['version']): Containerd {
  const refused = () => Promise.reject(new ContainerdError('unsupported', 'no CRI here'))
  const client = {
    namespace: 'k8s.io',
    version,
    plugins: async () => [],
    namespaces: async () => [],
    images: async () => [],
    server: async () => ({ uuid: 'a', pid: 0 }),
    contentRoot: async () => undefined,
    listContent: async function* () {
      // It holds nothing.
    },
  } as Partial<ContainerdClient> as ContainerdClient
  const cri = { info: refused, version: refused } as Partial<CriClient> as CriClient
  return {
    connection: undefined,
    in: () => client,
    cri,
    close: () => undefined,
  }
}
