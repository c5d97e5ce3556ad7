import { after } from 'node:test'
import { connectContainerd } from '../../lib/containerd/client/client.ts'
import { createContainerdStore } from '../../lib/containerd/store/store.ts'
import { silentLogger } from '../../lib/observe/log.ts'
import { digestKey, type Key } from '../../lib/oci/key.ts'
import { storeConformance } from '../conformance/store.ts'
import { beginPull, importImage, removeImage, startContainerd } from '../fixtures/containerd.ts'
import type { Content } from '../fixtures/image.ts'
import { startRegistry } from '../fixtures/registry.ts'
import { waitFor } from '../fixtures/wait.ts'

const containerd = await startContainerd()
const registry = await startRegistry()
after(async () => {
  await registry.close()
  await containerd.close()
})

/** A namespace for each test, so that tests do not see each other. */
let namespaces = 0

for (const [name, contentRoot] of [
  ['containerd store (files)', undefined],
  ['containerd store (socket)', '/var/empty/not-there'],
] as const) {
  storeConformance(name, async () => {
    const namespace = `conformance-${namespaces++}`
    const connection = connectContainerd(containerd.socket)
    const client = connection.in(namespace)
    const store = createContainerdStore({ client, log: silentLogger }, { contentRoot })
    const told = new Set<Key>()
    const watching = new AbortController()
    const watched = (async () => {
      for await (const { added, removed } of store.watch(watching.signal)) {
        for (const key of removed) told.delete(key)
        for (const key of added) told.add(key)
      }
    })()
    return {
      store,
      async put(image, imageName) {
        await importImage(containerd, namespace, image, imageName)
        // containerd answers for single digests at once. Media types and the tag's key come with the walk that its
        // event triggers.
        const keys = [imageName as Key, ...image.contents.map(({ descriptor }) => digestKey(descriptor.digest))]
        await waitFor(`${imageName} is told`, () => keys.every((key) => told.has(key)))
      },
      // Its bytes can only be read as files.
      ...(contentRoot === undefined
        ? { arrive: async (content: Content) => beginPull(containerd, namespace, registry, content) }
        : {}),
      remove: (image) => removeImage(containerd, namespace, image),
      async close() {
        watching.abort()
        await watched
        await store.close()
        connection.close()
      },
    }
  })
}
