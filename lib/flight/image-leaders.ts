import type { ContentTarget } from '../oci/path.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { Clock } from '../platform/clock.ts'

/** Images of which it is known who leads. */
const MOST_IMAGES = 256
/** Milliseconds for which a node that leads for a tag of a repository leads for the layers of its other tags as well. */
const LEAD_LIFE = 20_000

/**
 * Who leads for which images: this node, or another one. The claim of the manifest tells, and whoever leads for that leads for all
 * layers: if each node led for some of them, all would wait for each other.
 */
export class ImageLeaders {
  readonly #clock: Pick<Clock, 'now'>
  /** By image, since when this node leads for it, or that another one does. */
  readonly #leads = new BoundedMap<number | 'another'>(MOST_IMAGES)

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  /** @param isOurs whether this node leads for a manifest of the image */
  note(image: string, isOurs: boolean): void {
    const now = this.#clock.now()
    const since = this.#leads.get(image)
    // Of two tags that are pulled at once it may lead for one: nobody else does for that one.
    if (isOurs) this.#leads.set(image, now)
    else if (typeof since !== 'number' || now - since > LEAD_LIFE) this.#leads.set(image, 'another')
  }

  /** From now on, this node counts on no leader for the image. */
  forget(image: string | undefined): void {
    if (image !== undefined) this.#leads.delete(image)
  }

  isAnother(image: string | undefined): boolean {
    return image !== undefined && this.#leads.get(image) === 'another'
  }

  isThisNode(image: string | undefined): boolean {
    return image !== undefined && typeof this.#leads.get(image) === 'number'
  }
}

/** The image that content is part of: its repository, since a layer is asked for without a tag. */
export function imageOf({ registry, repository }: ContentTarget): string {
  return `${registry}/${repository}`
}
