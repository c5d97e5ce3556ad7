import assert from 'node:assert/strict'
import type { PullOptions } from '../../doubles/cri.ts'
import { type Cluster, type Node, type PushedImage, testCluster, until } from '../../e2e/harness/index.ts'

/** What each node and the registry can send and receive, in bytes per second: 100 Mbit/s. */
export const LINK = 12_500_000

/** How a pull ended, and how long it took. */
export interface Pulled {
  readonly name: string
  readonly seconds: number
  readonly error: unknown
}

/** Gives each node and the registry a link of that many bytes per second. */
export async function shapeLinks({ nodes, registry }: Cluster, bytesPerSecond = LINK): Promise<void> {
  for (const { network } of [...nodes, registry]) {
    await network.shape('out', bytesPerSecond)
    await network.shape('in', bytesPerSecond)
  }
}

/** Five nodes with flights as users have them, and a registry, all with links of {@link LINK}. */
export async function fiveNodes(): Promise<Cluster> {
  const flags = { flight: 'on', 'lookup-timeout': undefined }
  const cluster = await testCluster({
    nodes: ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name, flags })),
    registry: true,
  })
  await shapeLinks(cluster)
  return cluster
}

/** Pulls an image and returns how that ended; never rejects. */
export async function timedPull(node: Node, image: PushedImage, options: PullOptions): Promise<Pulled> {
  const start = performance.now()
  const error = await node.pull(image.reference, options).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  return { name: node.name, seconds: (performance.now() - start) / 1000, error }
}

/** How often to try a pull again, and the longest time between two tries in milliseconds. */
const [TRIES, TRY_INTERVAL] = [30, 2_000]

/**
 * Pulls again after wrong bytes. If containerd has kept a whole wrong blob, it asks nobody, checks the blob again, and fails. It
 * removes the blob after a number of changes of its database (`mutation_threshold`). Each try makes some changes, and the kubelet
 * tries until then.
 */
export async function pullAgain(node: Node, image: PushedImage, timeoutMs: number): Promise<Pulled> {
  for (let tries = 1; ; tries++) {
    const pulled = await timedPull(node, image, { timeoutMs })
    if (tries === TRIES || !/unexpected commit digest/.test(String(pulled.error))) return pulled
    const triedAt = performance.now()
    const layers = image.own.layers.map(({ digest }) => digest)
    await until(`${node.name} to have removed the wrong bytes, or to be asked again`, async () => {
      const sizes = await Promise.all(layers.map((layer) => node.ingested(layer)))
      return sizes.every((size) => size === 0) || performance.now() - triedAt > TRY_INTERVAL
    })
  }
}

/** The time of each pull, in one line. */
export function shown(pulls: readonly Pulled[]): string {
  return pulls.map(({ name, seconds, error }) => `${name} ${seconds.toFixed(1)} s${error ? ' failed' : ''}`).join(', ')
}

/** @throws {Error} when a pull failed, or the bytes of a node differ from the image's */
export async function assertWhole(cluster: Cluster, image: PushedImage, pulls: readonly Pulled[]): Promise<void> {
  const failed = pulls.filter(({ error }) => error !== undefined)
  assert.deepEqual(
    failed.map(({ name, error }) => `${name}: ${error}`),
    [],
  )
  for (const { name } of pulls) assert.deepEqual(await cluster.node(name).wrongFiles(image.reference, image), [])
}

/** How often the layers of an image leave the registry while `work` runs. */
export async function imagesDuring<T>(
  { registry }: Cluster,
  { own }: PushedImage,
  work: () => Promise<T>,
): Promise<[T, number]> {
  const before = await registry.network.carried()
  const result = await work()
  const after = await registry.network.carried()
  return [result, (after.out - before.out) / own.layers.reduce((sum, { size }) => sum + size, 0)]
}

/** Removes the image from all nodes that have it. */
export async function removeEverywhere({ nodes }: Cluster, { reference }: PushedImage): Promise<void> {
  for (const node of nodes) await node.removeImage(reference).catch(() => undefined)
}

/** Waits until a node's containerd has that many bytes of the first layer, or all. */
export async function untilIngested(node: Node, { own }: PushedImage, bytes: number): Promise<void> {
  const layer = own.layers[0]?.digest ?? assert.fail('no layer')
  const has = async () => (await node.ingested(layer)) >= bytes || (await node.content()).includes(layer)
  await until(`${node.name} to have ${bytes} bytes`, has)
}
