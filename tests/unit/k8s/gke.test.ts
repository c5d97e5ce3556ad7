/** GKE's result of the file for its node pools is what a mirror with the chart's settings needs to start. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { dialectOf } from '../../../lib/containerd/dialect.ts'
import { checkHosts } from '../../../lib/containerd/hosts/check.ts'
import { HOSTS_FILES } from '../../../lib/containerd/hosts/files.ts'
import { mirrorEntryFor } from '../../../lib/containerd/hosts/mirror-entry.ts'
import { readHosts } from '../../../lib/containerd/hosts/reading.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { readSettings } from '../../fixtures/settings.ts'

/** The version of containerd that GKE nodes have had since registry hosts exist. */
const VERSION = '2.1.5'

interface RegistryHost {
  readonly server: string
  readonly hosts: readonly { readonly host: string; readonly capabilities: readonly string[] }[]
}

const read = (name: string) => readFileSync(new URL(`../../../k8s/chart/${name}`, import.meta.url), 'utf8')
const { registryHosts } = parse(read('nodes/gke.yaml')) as { readonly registryHosts: readonly RegistryHost[] }
const { gke } = parse(read('distributions.yaml')) as { readonly gke: { registries: readonly string[]; certs: string } }

/** A hosts.toml as GKE writes it. */
function hostsToml({ server, hosts }: RegistryHost): string {
  const tables = hosts.map(({ host, capabilities }) => {
    const names = capabilities.map((capability) => `'${capability.replace('HOST_CAPABILITY_', '').toLowerCase()}'`)
    return `  [host.'${host}']\n    capabilities = [${names.join(', ')}]\n`
  })
  return `server = '${server}'\n\n[host]\n${tables.join('\n')}`
}

/** The settings that the chart gives to a mirror on GKE. */
function chartSettings() {
  const environment = {
    SWARMIRROR_CERTS_DIR: gke.certs,
    SWARMIRROR_REGISTRIES: gke.registries.join(),
    SWARMIRROR_SWARM_KEY: 'a'.repeat(43),
  }
  return readSettings({ flags: [], environment })
}

test("GKE's node configuration names registries as GKE takes them: by host and port alone", () => {
  for (const { server, hosts } of registryHosts) {
    assert.match(server, /^[a-z0-9.-]+(:\d+)?$/)
    for (const { host } of hosts) assert.equal(new URL(host).pathname, '/')
  }
})

test("a mirror with the chart's settings finds right what GKE writes, for every registry that it mirrors", async () => {
  const settings = chartSettings()
  await withTemporaryDirectory(async (certsDir) => {
    for (const entry of registryHosts) {
      await mkdir(join(certsDir, entry.server))
      await writeFile(join(certsDir, entry.server, 'hosts.toml'), hostsToml(entry))
    }
    const mirror = mirrorEntryFor(settings.listen, settings.resolve)
    const registries = settings.registries && [...settings.registries]
    const findings = await checkHosts({ certsDir, registries, mirror, version: VERSION, program: '' }, HOSTS_FILES)
    assert.deepEqual(
      findings.map(({ id, severity }) => `${id} ${severity}`),
      registryHosts.map(() => 'hosts-toml ok'),
      JSON.stringify(findings, undefined, 1),
    )
  })
})

test('where the mirror has nothing, GKE nodes ask Docker Hub where it answers', () => {
  // containerd goes to the server's own name last, and docker.io is the one registry that does not answer under its name.
  for (const entry of registryHosts.filter(({ server }) => server === 'docker.io')) {
    const reading = readHosts(hostsToml(entry), dialectOf(VERSION))
    assert.ok(reading.kind === 'hosts')
    assert.equal(reading.hosts.at(-1)?.name, 'https://registry-1.docker.io')
  }
})
