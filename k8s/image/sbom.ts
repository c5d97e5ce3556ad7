import { createHash } from 'node:crypto'

/** A part of the image. */
export interface ImagePackage {
  readonly name: string
  readonly version: string
  /** In the notation of SPDX. */
  readonly license: string
  /** Package URL: https://github.com/package-url/purl-spec */
  readonly purl: string
  /** The integrity of a download, as in package-lock.json. */
  readonly integrity?: string | undefined
}

/** The package URL of an npm package. */
export function npmPurl({ name, version }: Pick<ImagePackage, 'name' | 'version'>): string {
  return `pkg:npm/${name.replace('@', '%40')}@${encodeURIComponent(version)}`
}

/**
 * The image's bill of materials in SPDX 2.3. It lists only the contents of the image; the same contents give the same document.
 *
 * @param described the main package of the image
 * @param created seconds since 1970
 */
export function makeSbom(described: ImagePackage, parts: readonly ImagePackage[], created: number): string {
  const packages = [described, ...parts].map(({ name, version, license, purl, integrity }) => ({
    name,
    SPDXID: idOf({ name, version }),
    versionInfo: version,
    downloadLocation: 'NOASSERTION',
    filesAnalyzed: false,
    licenseDeclared: license,
    externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: purl }],
    ...(integrity === undefined ? {} : { checksums: [checksumOf(integrity)] }),
  }))
  const relationships = [
    { spdxElementId: 'SPDXRef-DOCUMENT', relatedSpdxElement: idOf(described), relationshipType: 'DESCRIBES' },
    ...parts.map((part) => ({
      spdxElementId: idOf(described),
      relatedSpdxElement: idOf(part),
      relationshipType: 'CONTAINS',
    })),
  ]
  const content = createHash('sha256')
    .update(JSON.stringify([packages, relationships]))
    .digest('hex')
  const document = {
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: 'SPDXRef-DOCUMENT',
    name: `${described.name}@${described.version}`,
    documentNamespace: `https://spdx.org/spdxdocs/${described.name}-${described.version}-${content}`,
    creationInfo: {
      created: new Date(created * 1000).toISOString().replace(/\.\d+Z$/, 'Z'),
      creators: [`Tool: ${described.name}-${described.version}`],
    },
    packages,
    relationships,
  }
  return `${JSON.stringify(document, undefined, 2)}\n`
}

function idOf({ name, version }: Pick<ImagePackage, 'name' | 'version'>): string {
  return `SPDXRef-Package-${`${name}-${version}`.replace(/[^A-Za-z0-9.-]/g, '-')}`
}

function checksumOf(integrity: string) {
  const [algorithm = '', value = ''] = integrity.split('-')
  return { algorithm: algorithm.toUpperCase(), checksumValue: Buffer.from(value, 'base64').toString('hex') }
}
