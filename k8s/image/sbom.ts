import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'

/** The parts of an SPDX 2.3 document that are read or written here; what else npm writes stays. */
interface SpdxDocument {
  name: string
  documentNamespace: string
  documentDescribes: string[]
  creationInfo: { created: string; creators: string[] }
  packages: object[]
  relationships: object[]
}

/** What is in the image beside the packages of npm. */
export interface OtherPackage {
  readonly name: string
  readonly version: string
  readonly license: string
  /** Package URL: https://github.com/package-url/purl-spec */
  readonly purl: string
}

/**
 * The image's bill of materials in SPDX 2.3: the npm packages that the mirror is made from, as `npm sbom` tells them from
 * the lock file, and the others given. Without the time and the random name that npm gives it: the same content is the
 * same document.
 *
 * @param created seconds since 1970
 */
export async function makeSbom(root: string, others: readonly OtherPackage[], created: number): Promise<string> {
  // Runtimes are optional dependencies here, for development: which one is inside is among the others.
  const args = [
    'sbom',
    '--sbom-format=spdx',
    '--sbom-type=application',
    '--package-lock-only',
    '--omit=dev',
    '--omit=optional',
  ]
  const { stdout } = await promisify(execFile)('npm', args, { cwd: root, maxBuffer: 64 << 20 })
  const document = JSON.parse(stdout) as SpdxDocument
  const [described] = document.documentDescribes
  for (const { name, version, license, purl } of others) {
    const SPDXID = `SPDXRef-Package-${`${name}-${version}`.replace(/[^A-Za-z0-9.-]/g, '-')}`
    document.packages.push({
      name,
      SPDXID,
      versionInfo: version,
      downloadLocation: 'NOASSERTION',
      filesAnalyzed: false,
      licenseDeclared: license,
      externalRefs: [{ referenceCategory: 'PACKAGE-MANAGER', referenceType: 'purl', referenceLocator: purl }],
    })
    document.relationships.push({
      spdxElementId: described,
      relatedSpdxElement: SPDXID,
      relationshipType: 'CONTAINS',
    })
  }
  document.creationInfo.created = new Date(created * 1000).toISOString().replace(/\.\d+Z$/, 'Z')
  const content = createHash('sha256')
    .update(JSON.stringify([document.packages, document.relationships]))
    .digest('hex')
  document.documentNamespace = `https://spdx.org/spdxdocs/${document.name.replace('@', '-')}-${content}`
  return `${JSON.stringify(document, undefined, 2)}\n`
}
