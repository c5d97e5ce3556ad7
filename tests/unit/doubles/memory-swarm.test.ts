import { type RouterMember, routerConformance } from '../../conformance/router.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'

routerConformance('memory router', async () => {
  const swarm = new MemorySwarm()
  const routers: RouterMember['router'][] = []
  return {
    async join() {
      const address = { host: '127.0.0.1', port: 1 + routers.length }
      const router = swarm.join(address)
      routers.push(router)
      return { router, address }
    },
    async close() {
      for (const router of routers) await router.close()
    },
  }
})
