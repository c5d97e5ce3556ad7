import { parseReference, type TaggedReference } from '../../../lib/oci/reference.ts'
import { storeConformance } from '../../conformance/store.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'

storeConformance('memory store', async () => {
  const store = createMemoryStore()
  return {
    store,
    async put(image, name) {
      store.addImage(image, parseReference(name) as TaggedReference)
    },
    async remove(image, name) {
      store.untag(parseReference(name) as TaggedReference)
      store.remove(...image.contents.map((content) => content.descriptor.digest))
    },
    async arrive(content) {
      const writer = store.arrive(content)
      return {
        write: async (bytes) => writer.write(bytes),
        commit: async () => writer.commit(),
        abort: async () => writer.abort(),
      }
    },
    close: () => store.close(),
  }
})
