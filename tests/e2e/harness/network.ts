import { mkdir } from 'node:fs/promises'
import { run } from './command.ts'
import { Namespace } from './namespace.ts'
import { namespaceFiles, type Run } from './run.ts'

/** The subnet of every cluster. It exists only in the cluster's namespaces, so clusters do not see each other. */
const SUBNET = '10.87.0'

/** The host part of the first address. */
const FIRST_HOST = 10

/** The most hosts that a cluster may have: the rest of the subnet. */
const MOST_HOSTS = 200

/** Makes namespaces that reach each other, and nothing else. */
export interface Network {
  /** Adds a host: a namespace with loopback, an address, and a link to the bridge. */
  add(name: string): Promise<Namespace>
}

/**
 * Makes the bridge in a namespace of its own: nothing appears in the machine's own network, and tests can put a fault on
 * either end of a host's link. The bridge goes away when the run is destroyed.
 */
export async function createNetwork(owner: Run): Promise<Network> {
  const bridge = `${owner.id}-bridge`
  await run('ip', ['netns', 'add', bridge])
  await ip(bridge, 'link set dev lo up', 'link add name br0 type bridge forward_delay 0', 'link set dev br0 up')
  let hosts = 0
  return {
    async add(name) {
      if (!/^[a-z][a-z0-9]{0,11}$/.test(name)) {
        throw new Error(`host name ${JSON.stringify(name)}: expected 1 to 12 lower-case letters and digits`)
      }
      if (hosts === MOST_HOSTS) throw new Error(`a cluster has at most ${MOST_HOSTS} hosts`)
      const address = `${SUBNET}.${FIRST_HOST + hosts}`
      hosts += 1
      const namespace = `${owner.id}-${name}`
      await run('ip', ['netns', 'add', namespace])
      await ip(bridge, `link add name ${name} type veth peer name eth0 netns ${namespace}`)
      await ip(bridge, `link set dev ${name} master br0`, `link set dev ${name} up`)
      await ip(namespace, 'link set dev lo up', `address add ${address}/24 dev eth0`, 'link set dev eth0 up')
      await mkdir(namespaceFiles(namespace), { recursive: true })
      const host = new Namespace({ name: namespace, address, bridge, port: name })
      await host.setNames({})
      return host
    },
  }
}

/** Runs `ip` commands in a namespace, all with one process. */
async function ip(namespace: string, ...commands: string[]): Promise<void> {
  await run('ip', ['-netns', namespace, '-batch', '-'], { input: `${commands.join('\n')}\n` })
}
