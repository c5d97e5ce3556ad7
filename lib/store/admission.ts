import type { ImageName, Policy } from '../oci/policy.ts'
import { fullReferenceOf } from '../oci/reference.ts'

/**
 * Applies the policy to all names of one piece of content. If there are tags, they decide, since the other names that
 * containerd keeps beside a tag (`repository@digest`, `sha256:...`) mean the same image; without a tag the repositories
 * decide. Content without any such name belongs to no registry. Free text that tools write beside it counts as the name
 * that it looks like, so that such text cannot get around the policy.
 *
 * @returns the names that may be used, without the tags that are not admitted; `undefined` if the content is not admitted
 */
export function admittedNames(names: readonly string[], admits: Policy['admits']): readonly string[] | undefined {
  const parsed = names.map((name) => ({ name, image: fullReferenceOf(name) }))
  const tagged = parsed.filter(({ image }) => image?.tag !== undefined)
  const known = tagged.length > 0 ? tagged : parsed.filter(({ image }) => image !== undefined)
  const isAdmitted =
    known.length > 0
      ? known.some(({ image }) => image !== undefined && admits(image))
      : [{ registry: '', repository: '' }, ...names.map(looselyRead)].every(admits)
  if (!isAdmitted) return undefined
  return parsed.filter(({ image }) => image?.tag === undefined || admits(image)).map(({ name }) => name)
}

/** The image that free text looks like: `registry.example/app` without a tag, `app:1` without a registry. */
function looselyRead(text: string): ImageName {
  const [name = ''] = text.split('@', 1)
  const [, registry = '', rest = ''] = /^(?:([^/]*[.:][^/]*|localhost)\/)?(.*)$/s.exec(name) ?? []
  const [, repository = rest, tag] = /^(.*):([^:/]*)$/s.exec(rest) ?? []
  return { registry, repository, tag }
}
