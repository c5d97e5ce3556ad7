import type { Finding } from '../finding.ts'
import type { ProbeEvidence } from './probe.ts'

/** Whether containerd asks this mirror: its `config_path` and hosts.toml files are effective. */
export const ASKED = 'probe-mirror-asked'
/** Whether layers stay in the content store: `discard_unpacked_layers` is off. */
export const KEPT = 'probe-layers-kept'

const RULES = {
  [ASKED]: {
    expected: 'containerd asks the registry door of this mirror for the probe, with the ns of its registry',
    why: 'a containerd that does not ask the mirror pulls everything from upstream, without a word',
  },
  [KEPT]: {
    expected: 'the layer of the probe is in the content store after the pull, and the manifest refers to it',
    why: 'a node that keeps no layers has none to give to others',
  },
} as const

type Evidence = Exclude<ProbeEvidence, { readonly kind: 'impossible' }>

/** What a probe shows, and nothing beyond that. */
export function probeFindings(evidence: ProbeEvidence): readonly Finding[] {
  if (evidence.kind === 'impossible') {
    const seen = `not probed: ${evidence.reason}`
    return [finding(ASKED, 'unknown', seen), finding(KEPT, 'unknown', `not probed, see ${ASKED}`)]
  }
  return [askedFinding(evidence), keptFinding(evidence)]
}

function askedFinding(evidence: Evidence): Finding {
  const { requests, registry, door, way } = evidence
  const told = way === 'own' ? 'a hosts.toml of the probe' : 'the hosts.toml in _default'
  const right = requests.filter(({ ns }) => ns === registry)
  if (right.length > 0) {
    const methods = [...Map.groupBy(right, ({ method }) => method)].map(([method, { length }]) => `${length} ${method}`)
    return finding(ASKED, 'ok', `containerd asked ${door} with the right ns, as ${told} says: ${methods.join(', ')}`)
  }
  const [other] = requests
  if (other !== undefined) {
    const ns = other.ns === undefined ? 'without ns' : `with ns=${JSON.stringify(other.ns)}`
    return finding(ASKED, 'error', `containerd asked ${door} ${ns} instead of ns=${registry}`, {
      text: 'let containerd ask the mirror directly: whatever stands between them must leave the query as it is',
    })
  }
  const error = reasonOf(evidence) ?? 'none, as if another server had the image'
  if (error.includes(new URL(door).host)) {
    return finding(ASKED, 'error', `containerd was told to ask ${door} and cannot reach it: ${error}`, {
      text: 'let the registry door listen where containerd reaches it: in the same network namespace (hostNetwork in a pod), on an address that no firewall closes',
    })
  }
  return finding(ASKED, 'error', `containerd did not ask ${door}, although ${told} says so; its error: ${error}`, {
    text: 'make config_path and the hosts.toml files right (see the other findings) and restart containerd: it reads config.toml at its start only',
    command: 'systemctl restart containerd',
  })
}

/** The end of containerd's words, which say at every step what was being done. */
function reasonOf({ error }: Evidence): string | undefined {
  return error?.replace(/^.*failed to do request: /s, '')
}

function keptFinding(evidence: Evidence): Finding {
  switch (evidence.layer) {
    case undefined:
      return evidence.requests.length === 0
        ? finding(KEPT, 'unknown', `the probe was not pulled, see ${ASKED}`)
        : finding(KEPT, 'unknown', `the pull of the probe failed: ${reasonOf(evidence)}`)
    case 'kept':
      return finding(KEPT, 'ok', 'the layer of the probe is in the content store after the pull')
    case 'never fetched':
      return finding(KEPT, 'error', 'containerd has unpacked the probe without fetching its layer', {
        text: 'use a snapshotter that fetches layers into the content store (overlayfs): a lazy one keeps none',
      })
    default:
      return finding(
        KEPT,
        'error',
        evidence.layer === 'gone'
          ? 'the layer of the probe was fetched, and is not in the content store after the pull'
          : 'the layer of the probe is in the content store after the pull, but nothing refers to it: the garbage collection takes it',
        {
          text: 'set discard_unpacked_layers = false (see the other findings) and restart containerd',
          command: 'systemctl restart containerd',
        },
      )
  }
}

function finding(
  id: keyof typeof RULES,
  severity: Finding['severity'],
  seen: string,
  remedy?: Finding['remedy'],
): Finding {
  return { id, severity, seen, ...RULES[id], ...(remedy === undefined ? {} : { remedy }) }
}
