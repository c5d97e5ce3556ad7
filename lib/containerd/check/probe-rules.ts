import { type Fact, isUnreadable, type Rule, rule, type Verdict } from '../rule.ts'
import { type ConfigView, restartOf } from './config-view.ts'
import { asksMirror, type ProbeEvidence, type SeenPull } from './probe.ts'
import { configPathVerdict, discardVerdict } from './setting-rules.ts'

/** The input of the rules on a probe. The configuration cannot outweigh what the probe shows, but may explain it. */
export interface ProbeSnapshot {
  readonly probe: ProbeEvidence
  readonly config: ConfigView | undefined
}

function judgeAsked(pull: SeenPull, config: ConfigView | undefined): Verdict {
  const { requests, registry, door, way } = pull
  const told = way === 'own' ? 'a hosts.toml of the probe' : 'the hosts.toml in _default'
  if (asksMirror(pull)) {
    const right = requests.filter(({ ns }) => ns === registry)
    const methods = [...Map.groupBy(right, ({ method }) => method)].map(([method, { length }]) => `${length} ${method}`)
    return {
      severity: 'ok',
      seen: `containerd asked ${door} with the right ns, as ${told} says: ${methods.join(', ')}`,
    }
  }
  const [other] = requests
  if (other !== undefined) {
    const ns = other.ns === undefined ? 'without ns' : `with ns=${JSON.stringify(other.ns)}`
    const text = 'let containerd ask the mirror directly: nothing between them may change the query'
    return { severity: 'error', seen: `containerd asked ${door} ${ns} instead of ns=${registry}`, remedy: { text } }
  }
  const error = reasonOf(pull) ?? 'none, as if another server had the image'
  if (error.includes(new URL(door).host)) {
    const seen = `containerd was told to ask ${door} and cannot reach it: ${error}`
    const where = 'in the same network namespace (hostNetwork in a pod), on an address that no firewall closes'
    const remedy = { text: `let the registry door listen where containerd reaches it: ${where}` }
    return { severity: 'error', seen, remedy }
  }
  const seen = `containerd did not ask ${door}, although ${told} says so; its error: ${error}`
  const right = 'correct config_path and the hosts.toml files (see the other findings)'
  const text = `${right} and restart containerd: it reads config.toml only when it starts`
  return { severity: 'error', seen, remedy: { text, command: restartOf(config) } }
}

function judgeKept(pull: SeenPull, config: ConfigView | undefined): Verdict {
  const { layer, requests } = pull
  const after = 'in the content store after the pull'
  if (layer === undefined) {
    const failed = `the pull of the probe failed: ${reasonOf(pull)}`
    const seen = requests.length > 0 ? failed : 'the probe was not pulled, see probe-mirror-asked'
    return { severity: 'unknown', seen }
  }
  if (layer === 'kept') return { severity: 'ok', seen: `the layer of the probe is ${after}` }
  if (layer === 'never fetched') {
    const text = 'use a snapshotter that fetches layers into the content store (overlayfs): a lazy one keeps none'
    const seen = 'containerd has unpacked the probe without fetching its layer'
    return { severity: 'error', seen, remedy: { text } }
  }
  const loose = `the layer of the probe is ${after}, but nothing refers to it, so garbage collection will delete it`
  const gone = `the layer of the probe was fetched, but is not ${after}`
  const text = 'set discard_unpacked_layers = false (see the other findings) and restart containerd'
  return { severity: 'error', seen: layer === 'loose' ? loose : gone, remedy: { text, command: restartOf(config) } }
}

/** The end of containerd's message, which names every step that led there. */
function reasonOf({ error }: SeenPull): string | undefined {
  return error?.replace(/^.*failed to do request: /s, '')
}

/** Adds a note if the files look right although the probe shows a fault. */
function despite(verdict: Verdict, id: string, read: Verdict | undefined): Verdict {
  if (verdict.severity !== 'error' || read?.severity !== 'ok') return verdict
  const seen = `${verdict.seen}; yet ${id} looks right in the files: they count from containerd’s next start on`
  return { ...verdict, seen }
}

/** The pull and the configuration, or the reason why there was no pull. */
function pullIn({ probe, config }: ProbeSnapshot): Fact<{ pull: SeenPull; config: ConfigView | undefined }> {
  return isUnreadable(probe) ? { unreadable: `not probed: ${probe.unreadable}` } : { pull: probe, config }
}

/** Rules on what a probe shows, and nothing beyond that. */
export const PROBE_RULES: readonly Rule<ProbeSnapshot>[] = [
  rule({
    id: 'probe-mirror-asked',
    reads: pullIn,
    judges: ({ pull, config }) =>
      despite(judgeAsked(pull, config), 'registry-config-path', config && configPathVerdict(config)),
    expected: 'containerd asks the registry door of this mirror for the probe, with the ns of its registry',
    why: 'if containerd does not ask the mirror, it pulls everything from upstream and says nothing',
  }),

  rule({
    id: 'probe-layers-kept',
    reads: pullIn,
    judges: ({ pull, config }) =>
      despite(judgeKept(pull, config), 'discard-unpacked-layers', config && discardVerdict(config)),
    expected: 'the layer of the probe is in the content store after the pull, and the manifest refers to it',
    why: 'a node that keeps no layers has none to give to others',
  }),
]
