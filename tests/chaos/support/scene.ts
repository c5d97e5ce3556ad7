import assert from 'node:assert/strict'
import type { Digest } from '../../../lib/oci/digest.ts'
import type { Cluster, Node, PushedImage, Runtime } from '../../e2e/harness/index.ts'
import { busiest, type Experiment, forget, type Outcome, pullUnder, untilHeldBy } from './experiment.ts'
import type { Report } from './report.ts'

const MB = 1_000_000
/** One layer holds nearly everything: whoever sends in the middle of the pull sends that one. */
export const LAYERS: readonly number[] = [190 * MB, 5 * MB, 5 * MB]
/** What each holder may send, in bytes per second, so that a pull takes some seconds. */
const RATE = 50 * MB
/** How many bytes of the largest layer have come when the fault happens. */
const MIDDLE = 30 * MB
/**
 * The most bytes that may come twice. When the mirror gives up a connection, bytes in the kernel's buffers are lost. A quarter of
 * the image is far more than that, and far less than a layer that starts again.
 */
const TWICE = 50 * MB

export interface SceneOptions {
  readonly image: PushedImage
  /** The nodes that already have the image. */
  readonly holders: readonly Node[]
  /** The node that pulls, unless an experiment names another. */
  readonly asker: Node
  readonly report: Report
  /** The runtime under test, for the report; by default the asker's. */
  readonly runtime?: Runtime
}

/** Holders of one image, what happens to them while somebody pulls it, and their repair. */
export class Scene {
  readonly image: PushedImage
  readonly holders: readonly Node[]
  readonly asker: Node
  readonly #cluster: Cluster
  readonly #report: Report
  readonly #runtime: Runtime | undefined
  readonly #repairs: (() => Promise<void>)[] = []
  readonly #undisturbed = new Map<Node, number>()

  constructor(cluster: Cluster, { image, holders, asker, report, runtime }: SceneOptions) {
    this.#cluster = cluster
    this.image = image
    this.holders = holders
    this.asker = asker
    this.#report = report
    this.#runtime = runtime
  }

  /** The digest of the layer that makes nearly all of the image. */
  get largest(): Digest {
    return this.image.own.layers[0]?.digest ?? assert.fail('no layer')
  }

  /** The holder that sends most at this moment. */
  serving(): Promise<Node> {
    return busiest(this.holders)
  }

  /** The middle of the pull, for an experiment. */
  middle(): Pick<Experiment, 'when'> {
    return { when: { digest: this.largest, bytes: MIDDLE } }
  }

  /** Adds a step for the next repair of the holders. */
  repairLater(repair: () => Promise<void>): void {
    this.#repairs.push(repair)
  }

  /** Bounds what the holders send, as between experiments. */
  async shape(): Promise<void> {
    for (const { network } of this.holders) await network.shape('out', RATE)
  }

  /** Pulls without a fault, and compares this asker's later pulls with that. */
  async undisturbed(asker: Node = this.asker): Promise<void> {
    await this.shape()
    const outcome = await this.pull({ what: 'nothing', asker })
    assertFromPeers(outcome)
    this.#undisturbed.set(asker, outcome.ms)
  }

  /** Runs an experiment on a pull that all holders could serve, checks the content, and restores everything. */
  async pull(
    experiment: Pick<Experiment, 'what'> & Partial<Experiment>,
    prepare: () => Promise<void> = async () => undefined,
  ): Promise<Outcome> {
    const { image, holders } = this
    const asker = experiment.asker ?? this.asker
    await untilHeldBy(this.#cluster, image, { holders, askers: [asker] })
    try {
      await prepare()
      const outcome = await pullUnder(this.#cluster, { image, ...experiment, asker })
      const runtime = this.#runtime ?? asker.runtime
      this.#report.add(outcome, { runtime, undisturbed: this.#undisturbed.get(asker) })
      assert.deepEqual(await asker.wrongFiles(image.reference, image), [])
      return outcome
    } finally {
      await Promise.all([this.#heal(), forget(asker, image)])
    }
  }

  async #heal(): Promise<void> {
    for (const repair of this.#repairs.splice(0)) await repair()
    for (const { network, mirror, containerd } of this.holders) {
      await network.heal()
      if (mirror.running) await mirror.resume()
      else await mirror.start()
      if (!containerd.running) await containerd.start()
    }
    await this.shape()
  }
}

/** Asserts what must hold whenever another peer has the content. */
export function assertUpstreamUnasked({ what, upstream }: Outcome): void {
  assert.deepEqual(upstream, [], `${what}: upstream was asked`)
}

/** Asserts what must hold for a pull that never failed. */
export function assertFromPeers(outcome: Outcome): void {
  assertUpstreamUnasked(outcome)
  const { what, twice } = outcome
  assert.ok(twice < TWICE, `${what}: ${twice} bytes came twice`)
}

/** Asserts what must hold when the serving node is lost: the asker's mirror continued elsewhere, and containerd did not notice. */
export function assertWentOn(outcome: Outcome): void {
  assertFromPeers(outcome)
  // After a mirror is killed, its node's kernel still sends the running pieces. In that case the asker has nothing to resume.
  assert.ok(outcome.losses > 0, `${outcome.what}: expected the mirror to continue from another peer`)
}
