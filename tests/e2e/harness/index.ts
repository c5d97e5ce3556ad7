/**
 * The end-to-end harness: clusters of real containerds and mirrors in network namespaces, for tests and benchmarks.
 *
 * ```ts
 * const cluster = await testCluster({ nodes: ['a', 'b', { name: 'c', runtime: 'bun' }], registry: true })
 * const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')]
 *
 * test('pull: B has it from A', async () => {
 *   const image = await cluster.registry.push(await cluster.makeImage({ seed: 'app', layers: [1 << 20] }), 'team/app:v1')
 *   await a.pull(image.reference)
 *   const asked = await cluster.registry.requestsDuring(() => b.pull(image.reference))
 *   assert.deepEqual(requestsFor(image.digests, asked), [])
 *   assert.deepEqual(await b.wrongFiles(image.reference, image), [])
 * })
 * ```
 *
 * **What a cluster is.** Hosts on one bridge, each a network namespace with loopback, an address in 10.87.0.0/24 and nothing
 * else; the bridge is in a namespace of its own, so the machine's network does not change. Every {@link Node} has a
 * containerd (`node.containerd`) and a mirror (`node.mirror`), both {@link Daemon}s: `start`, `stop` (SIGTERM, returns the exit
 * code), `kill` (SIGKILL), `pause` and `resume` (SIGSTOP, SIGCONT), `restart`, `output`. The {@link Registry} is the upstream: the
 * images are `registry.test/...`, `registry.whileDown()` takes it down, `registry.requestsDuring()` returns the requests to it.
 * `locked` adds
 * registries that require a secret (`cluster.locked('basic')`). Every node's hosts.toml points to its mirror first and to the upstream second; `node.writeHosts()` changes that.
 *
 * **Faults.** `node.network.cutOff()`, `loseIncoming(percent)`, `loseLarge(bytes)`, `resetIncoming()` and `heal()` by nftables, `shape('out', bytesPerSecond)`
 * by tc; `setNames()` changes what names resolve to.
 *
 * **Observing.** `network.carried()` counts the bytes that came and went; `node.pull`, `ctrPull`, `images`, `content`, `wrongFiles`, `curl`, `admin`, `exec`; `logLines(node.mirror)`. An
 * announcement takes a moment: `untilOffered(image)` and `untilGone(image)` wait for it at a node's door, and with upstream down
 * `untilResolved(image)` waits for the tag. Wait for other
 * conditions with {@link until}, which is bounded; never sleep.
 *
 * **Clean-up.** `cluster.close()` ends all processes and removes namespaces and files. The same happens when the process
 * exits in any other way, Ctrl-C included. The next cluster on the machine removes what a SIGKILLed process leaves: names carry
 * the owner's pid and start time. The harness only ever kills processes inside the cluster's own namespaces.
 *
 * **Runtimes.** The mirrors run on Node, or on what E2E_RUNTIME (`node`, `deno`, `bun`) or the node's `runtime` names. The
 * harness itself runs on Node 24.
 *
 * **containerd** is the first one in PATH: 1.7 or 2.1 ({@link CONTAINERD}); {@link byMajor} picks what differs.
 *
 * **Needs** root, and Debian's containerd, runc, docker-registry, skopeo, oras, curl, iproute2, nftables, tcpdump.
 *
 * {@link createCluster} is the same without `node:test`.
 */
export type { UpstreamRequest } from './access-log.ts'
export { type Cluster, type ClusterOptions, createCluster, type NodeOptions } from './cluster.ts'
export {
  type ConfigChoices,
  type ContainerdConfig,
  type ContainerdPaths,
  containerdConfig,
  defaultContainerdConfig,
} from './containerd.ts'
export type { CurlOptions, CurlResult, RunningCurl } from './curl.ts'
export { Daemon, type Exit } from './daemon.ts'
export type { Hosts } from './hosts.ts'
export { blobFile, type Image, type ImageOptions, layerFileName, type PlatformManifest } from './image.ts'
export { metricsOf, totalOf } from './metrics.ts'
export { defaultRuntime, logLines, type MirrorFlags, REGISTRY_DOOR, type Runtime } from './mirror.ts'
export type { Namespace } from './namespace.ts'
export type { Node } from './node.ts'
export { blobPath, manifestPath, type PushedImage, REGISTRY_NAME, type Registry, requestsFor } from './registry.ts'
export { testCluster } from './test.ts'
export { byMajor, CONTAINERD } from './version.ts'
export { until } from './wait.ts'
