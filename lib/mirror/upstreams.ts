import type { ContainerdClient } from '../containerd/client/client.ts'
import { ContainerdError } from '../containerd/client/error.ts'
import { HOSTS_FILES, isRefusal } from '../containerd/hosts/files.ts'
import { registriesIn } from '../containerd/hosts/look.ts'
import { mirrorUrlFor } from '../containerd/hosts/mirror-entry.ts'
import { upstreamPlaceOf } from '../containerd/hosts/upstream-hosts.ts'
import { isProbeRegistry } from '../containerd/probe-name.ts'
import { type Finding, rule } from '../containerd/rule.ts'
import type { Logger } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Key } from '../oci/key.ts'
import { fullReferenceOf } from '../oci/reference.ts'
import { type Settings, variableOf } from '../settings/settings.ts'
import { createProbe, type ProbeResult } from '../upstream/probe.ts'
import { askHosts, createUpstreams, type Upstreams } from '../upstream/upstreams.ts'

/** How many registries a check asks, all at once. */
const MOST_CHECKED = 8

type UpstreamSettings = Pick<
  Settings,
  'certs-dir' | 'listen' | 'upstream-timeout' | 'http-proxy' | 'https-proxy' | 'no-proxy'
>

export interface NodeUpstreamDependencies {
  /** The keys that this node offers to others. The tags among them name registries. */
  readonly held: ReadonlySet<Key>
  readonly metrics: Metrics
  readonly log: Logger
}

/** The registries that containerd on this node asks, at the hosts that its hosts.toml files name. */
export function createNodeUpstreams(
  settings: UpstreamSettings,
  { held, metrics, log }: NodeUpstreamDependencies,
): Upstreams {
  const find = async (registry: string) => {
    const place = await placeOf(registry, settings)
    return { ...place, isKnown: place.isKnown || [...held].some((key) => key.startsWith(`${registry}/`)) }
  }
  return createUpstreams({ find, probe: probeFor(settings), metrics, log }, settings['upstream-timeout'])
}

/** Asks the registries of this node's settings, hosts.toml files and images once, and judges their answers. */
export async function upstreamFindings(
  settings: UpstreamSettings & Pick<Settings, 'registries' | 'resolve'>,
  client: Pick<ContainerdClient, 'images'>,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const by = settings.resolve
  if (by === 'swarm') return []
  const registries = [...(settings.registries ?? (await registriesOf(settings, client, signal)))].slice(0, MOST_CHECKED)
  const probe = probeFor(settings)
  const time = settings['upstream-timeout']
  const looked = registries.map(async (registry) => {
    const { hosts } = await placeOf(registry, settings)
    return { registry, ...(await askHosts(hosts, (host) => probe(host, true, time, signal), time)) }
  })
  return UPSTREAM.judge({ by, registries: await Promise.all(looked) })
}

async function registriesOf(settings: UpstreamSettings, client: Pick<ContainerdClient, 'images'>, signal: AbortSignal) {
  const named = await registriesIn(settings['certs-dir'], HOSTS_FILES).catch((error: unknown) => {
    if (isRefusal(error)) return []
    throw error
  })
  const images = await client.images(signal).catch((error: unknown) => {
    if (error instanceof ContainerdError) return []
    throw error
  })
  const held = images.flatMap(({ name }) => fullReferenceOf(name)?.registry ?? [])
  return new Set([...named, ...held.filter((registry) => !isProbeRegistry(registry))])
}

function placeOf(registry: string, settings: UpstreamSettings) {
  const node = { certsDir: settings['certs-dir'], mirrorUrl: mirrorUrlFor(settings.listen) }
  return upstreamPlaceOf(registry, node, HOSTS_FILES)
}

function probeFor(settings: UpstreamSettings) {
  const { 'http-proxy': http, 'https-proxy': https, 'no-proxy': except } = settings
  return createProbe({ http, https, except })
}

type CheckedRegistry = ProbeResult & { readonly registry: string }

const UPSTREAM = rule({
  id: 'upstream',
  reads: (looked: { by: 'fallback' | 'upstream'; registries: readonly CheckedRegistry[] }) => looked,
  judges({ by, registries }) {
    const words = { answers: 'answers', silent: 'does not answer', unasked: 'is not asked from here' } as const
    const severities = { answers: 'ok', silent: 'warning', unasked: 'unknown' } as const
    return registries.map(({ registry, state, reason }) => ({
      severity: severities[state],
      seen: `${registry} ${words[state]} (${reason})`,
      ...(by === 'fallback' ? {} : { why: 'as long as it does not, no tag of it resolves, whatever the nodes hold' }),
    }))
  },
  expected: 'every registry to answer at the hosts that containerd asks after the mirror',
  why: 'as long as it does not, a tag means what the swarm last knew, and a pull from the swarm needs no secret',
  remedy: ({ by }, { severity }) =>
    severity === 'warning' && by === 'fallback'
      ? {
          text: 'make the registry reachable from this node; in a cluster without an upstream, let the swarm resolve',
          lines: [`${variableOf('resolve')}=swarm`],
        }
      : undefined,
})
