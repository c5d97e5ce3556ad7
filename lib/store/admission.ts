import { OciError } from '../oci/error.ts'
import type { ImageName, Policy } from '../oci/policy.ts'
import { parseFullReference } from '../oci/reference.ts'

/**
 * Applies the policy to everything that one piece of content is called. Tags decide if there are any, since the other
 * names that a runtime keeps beside a tag (`repository@digest`, `sha256:...`) are the same image again; without a tag the
 * repositories decide. What has no such name is an image of no registry, and it is refused as well if a text that is no
 * full name, as tools write it beside content, would be refused if it were one.
 *
 * @returns the names that may be used, tags that are not admitted left out; `undefined` if the content is not admitted
 */
export function admittedNames(names: readonly string[], admits: Policy['admits']): readonly string[] | undefined {
  const parsed = names.map((name) => ({ name, image: imageOf(name) }))
  const tagged = parsed.filter(({ image }) => image?.tag !== undefined)
  const known = tagged.length > 0 ? tagged : parsed.filter(({ image }) => image !== undefined)
  const isAdmitted =
    known.length > 0
      ? known.some(({ image }) => image !== undefined && admits(image))
      : [{ registry: '', repository: '' }, ...names.map(looselyRead)].every(admits)
  if (!isAdmitted) return undefined
  return parsed.filter(({ image }) => image?.tag === undefined || admits(image)).map(({ name }) => name)
}

/** The image that a name in full means; `undefined` for free text, which both containerd and layouts allow. */
function imageOf(name: string): ImageName | undefined {
  try {
    return parseFullReference(name)
  } catch (error) {
    if (error instanceof OciError) return undefined
    throw error
  }
}

/** What a text would mean if it were a name: `registry.example/app` without a tag, `app:1` without a registry. */
function looselyRead(text: string): ImageName {
  const [name = ''] = text.split('@', 1)
  const [, registry = '', rest = ''] = /^(?:([^/]*[.:][^/]*|localhost)\/)?(.*)$/s.exec(name) ?? []
  const [, repository = rest, tag] = /^(.*):([^:/]*)$/s.exec(rest) ?? []
  return { registry, repository, tag }
}
