import type { ContentTarget } from '../oci/path.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { Clock } from '../platform/clock.ts'

/** For how many images this node remembers who leads. */
const MOST_IMAGES = 256
/** Milliseconds for which a node that leads for one tag of a repository also leads for the layers of its other tags. */
const LEAD_LIFE = 20_000

/**
 * Who leads for an image: this node or another one. The node that leads for the manifest leads for all layers: if each node led for
 * some of them, all would wait for each other.
 */
export class ImageLeaders {
  readonly #clock: Pick<Clock, 'now'>
  /** By image: since when this node leads for it, or `another`. */
  readonly #leads = new BoundedMap<number | 'another'>(MOST_IMAGES)

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock
  }

  /** @param isOurs whether this node leads for a manifest of the image */
  note(image: string, isOurs: boolean): void {
    const now = this.#clock.now()
    const since = this.#leads.get(image)
    // If two tags are pulled at once, this node may lead for only one of them; for that one nobody else does.
    if (isOurs) this.#leads.set(image, now)
    else if (typeof since !== 'number' || now - since > LEAD_LIFE) this.#leads.set(image, 'another')
  }

  /** From now on, this node waits for no leader of the image. */
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
