import assert from 'node:assert/strict'
import type { Digest } from '../../../lib/oci/digest.ts'
import type { Cluster, Node, PushedImage, Runtime } from '../../e2e/harness/index.ts'
import { busiest, type Experiment, forget, type Outcome, pullUnder, untilHeldBy } from './experiment.ts'
import type { Report } from './report.ts'

const MB = 1_000_000
/** Nearly all is in one layer: whoever sends in the middle of the pull sends that one. */
export const LAYERS: readonly number[] = [190 * MB, 5 * MB, 5 * MB]
/** What each holder may send, in bytes per second: a pull takes some seconds. */
const RATE = 50 * MB
/** How much of the largest layer has come when the fault happens. */
const MIDDLE = 30 * MB
/**
 * Most bytes that may come twice. What was under way in the kernel's buffers when a connection was given up is lost; a quarter
 * of the image is far more than that, and far less than one layer that begins anew.
 */
const TWICE = 50 * MB

export interface SceneOptions {
  readonly image: PushedImage
  /** Those that the image can come from. They have it already. */
  readonly holders: readonly Node[]
  /** Pulls unless an experiment says otherwise. */
  readonly asker: Node
  readonly report: Report
  /** The runtime that matters, for the report: the holders'. The asker's unless given. */
  readonly runtime?: Runtime
}

/** Holders of one image, what is done to them while somebody pulls it, and how they are made whole again. */
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

  /** Who sends most at this moment. */
  serving(): Promise<Node> {
    return busiest(this.holders)
  }

  /** The middle of the pull, for an experiment. */
  middle(): Pick<Experiment, 'when'> {
    return { when: { digest: this.largest, bytes: MIDDLE } }
  }

  /** What else must be done to make a holder whole again, once. */
  repairLater(repair: () => Promise<void>): void {
    this.#repairs.push(repair)
  }

  /** Bounds what the holders send, as between experiments. */
  async shape(): Promise<void> {
    for (const { network } of this.holders) await network.shape('out', RATE)
  }

  /** Pulls without a fault, and takes that for what other pulls of this asker are compared with. */
  async undisturbed(asker: Node = this.asker): Promise<void> {
    await this.shape()
    const outcome = await this.pull({ what: 'nothing', asker })
    assertFromPeers(outcome)
    this.#undisturbed.set(asker, outcome.ms)
  }

  /** Runs an experiment on a pull that all holders could serve; checks the content; makes everything as it was. */
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

/** What must be true wherever another peer has the content. */
export function assertUpstreamUnasked({ what, upstream }: Outcome): void {
  assert.deepEqual(upstream, [], `${what}: upstream was asked`)
}

/** What must be true of a pull that did not fail in between. */
export function assertFromPeers(outcome: Outcome): void {
  assertUpstreamUnasked(outcome)
  const { what, twice } = outcome
  assert.ok(twice < TWICE, `${what}: ${twice} bytes came twice`)
}

/** What must be true when the node that served is lost: its mirror went on elsewhere, and containerd did not notice. */
export function assertWentOn(outcome: Outcome): void {
  assertFromPeers(outcome)
  // Of a node whose mirror is killed, the kernel still sends the pieces that are under way: then nothing has to be resumed.
  assert.ok(outcome.losses > 0, `${outcome.what}: expected the mirror to go on from another peer`)
}
