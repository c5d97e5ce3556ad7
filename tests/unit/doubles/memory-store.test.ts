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
    close: () => store.close(),
  }
})
