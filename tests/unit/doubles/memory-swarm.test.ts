import { membersConformance, type SwarmFixture } from '../../conformance/members.ts'
import { routerConformance } from '../../conformance/router.ts'
import { type MemoryNode, MemorySwarm } from '../../doubles/memory-swarm.ts'

async function makeFixture(): Promise<SwarmFixture> {
  const swarm = new MemorySwarm(50)
  const nodes: MemoryNode[] = []
  return {
    async join() {
      const node = swarm.join({ host: '127.0.0.1', port: 1 + nodes.length })
      nodes.push(node)
      return { router: node, members: node, address: node.self, close: () => node.close() }
    },
    async close() {
      for (const node of nodes) await node.close()
    },
  }
}

routerConformance('memory router', makeFixture)
membersConformance('memory members', makeFixture)
