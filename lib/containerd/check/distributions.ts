import { variableOf } from '../../settings/settings.ts'
import type { Remedy } from '../rule.ts'
import { type ConfigReader, glob } from './config/glob.ts'
import { isMainMissing } from './config/load.ts'
import { IMAGES_PLUGIN, OLD_PLUGIN } from './config/merge.ts'
import type { ConfigReading } from './config/settings.ts'

/** What the mirror needs of containerd. */
export interface Expectation {
  /** The directory of the hosts.toml files, as containerd sees it. */
  readonly certsDir: string
  /** The host and port at which containerd reaches the registry door. */
  readonly registryDoor: string
}

/** What a remedy depends on, besides the distribution. */
interface Situation extends Expectation {
  /** Whether containerd's files name the plugin of 1.x or the one of 2.x. */
  readonly plugin: 'old' | 'images'
}

/** A Kubernetes distribution that a node's files reveal. The README says what it comes with and what must be added. */
export interface Distribution {
  readonly name: string
  /** The paths on such a node that differ from the defaults of swarmirror's settings. */
  readonly settings?: Partial<Record<'containerd-config' | 'certs-dir' | 'containerd-socket', string>>
  /** Paths, and contents of containerd's main file; a single match reveals the distribution. */
  readonly marks: { readonly paths: readonly string[]; readonly content?: RegExp }
  /** What to do in place of editing containerd's file, which the distribution writes. */
  readonly remedy?: ((situation: Situation) => Remedy) | undefined
  /** Makes containerd read its files again; by default `systemctl restart containerd`. */
  readonly restart?: string | undefined
}

/** The two settings as TOML, for a distribution that merges it into its own file key by key. */
function settingsToml(situation: Situation): string[] {
  const id = situation.plugin === 'old' ? OLD_PLUGIN : IMAGES_PLUGIN
  const path = `  config_path = ${JSON.stringify(situation.certsDir)}`
  return [`[plugins."${id}".registry]`, path, ...layersToml(situation)]
}

function layersToml({ plugin }: Situation): string[] {
  const table = plugin === 'old' ? `[plugins."${OLD_PLUGIN}".containerd]` : `[plugins."${IMAGES_PLUGIN}"]`
  return [table, '  discard_unpacked_layers = false']
}

/** Indents lines for a block scalar in YAML. */
const indented = (lines: readonly string[], by: number) => lines.map((line) => `${' '.repeat(by)}${line}`)

function rancher(name: string): Omit<Distribution, 'name'> {
  const root = `/var/lib/rancher/${name}/agent`
  const server = name === 'k3s' ? name : `${name}-server`
  const restart = `systemctl restart ${server} || systemctl restart ${name}-agent`
  return {
    settings: {
      'containerd-config': `${root}/etc/containerd/config.toml`,
      'certs-dir': `${root}/etc/containerd/certs.d`,
      'containerd-socket': '/run/k3s/containerd/containerd.sock',
    },
    marks: { paths: [`${root}/etc/containerd/config.toml`], content: new RegExp(`/var/lib/rancher/${name}/agent`) },
    remedy: (situation) => {
      if (situation.plugin === 'old') {
        return { text: `a drop-in would replace all of CRI's settings on containerd 1.7: upgrade ${name} first` }
      }
      const text = `${name} generates containerd's file, and imports drop-ins: add this one`
      const file = `${root}/etc/containerd/config-v3.toml.d/swarmirror.toml`
      return { text, file, lines: ['version = 3', ...settingsToml(situation)], command: restart }
    },
    restart,
  }
}

const RESTART_K0S = 'systemctl restart k0sworker || systemctl restart k0scontroller'

/** All known distributions. The first one with a matching mark counts, so one that builds on another comes before it. */
export const DISTRIBUTIONS: readonly Distribution[] = [
  {
    name: 'Kind',
    marks: { paths: ['/kind/version', '/kind/product_name'], content: /\/etc\/containerd\/cri-base\.json/ },
    remedy: (situation) => ({
      text: "a node's containerd is configured when the cluster is created: create it again with this in its configuration",
      file: 'kind.yaml',
      lines: [
        'kind: Cluster',
        'apiVersion: kind.x-k8s.io/v1alpha4',
        'containerdConfigPatches:',
        '  - |-',
        ...indented(settingsToml(situation), 4),
      ],
      command: 'kind create cluster --config kind.yaml',
    }),
  },
  {
    name: 'Talos',
    settings: { 'containerd-config': '/etc/cri/containerd.toml', 'certs-dir': '/etc/cri/conf.d/hosts' },
    marks: { paths: ['/etc/cri/containerd.toml', '/etc/cri/conf.d/cri.toml'] },
    remedy: (situation) => ({
      text: 'Talos writes the file: apply this patch to the machine configuration of every node, and reboot it',
      file: 'swarmirror-patch.yaml',
      lines: [
        'machine:',
        '  files:',
        '    - path: /etc/cri/conf.d/20-customization.part',
        '      op: create',
        '      content: |',
        ...indented(layersToml(situation), 8),
      ],
      command:
        'talosctl patch machineconfig --nodes NODE --patch @swarmirror-patch.yaml && talosctl reboot --nodes NODE',
    }),
    restart: 'talosctl reboot --nodes NODE',
  },
  {
    name: 'EKS, Bottlerocket',
    marks: { paths: ['/.bottlerocket'], content: /default_runtime_name\s*=\s*"shimpei"/ },
    remedy: ({ registryDoor }) => ({
      text: 'Bottlerocket writes the file from its settings: put this into the user data, and replace the nodes',
      file: 'user data of the nodes',
      lines: ['[[settings.container-registry.mirrors]]', 'registry = "*"', `endpoint = ["http://${registryDoor}"]`],
    }),
    restart: 'apiclient reboot',
  },
  {
    name: 'EKS, Amazon Linux 2023',
    marks: { paths: ['/usr/bin/nodeadm', '/etc/eks/nodeadm.d'], content: /\/etc\/containerd\/base-runtime-spec\.json/ },
    remedy: (situation) => ({
      text: 'nodeadm writes the file when a node starts: put this into the user data, and replace the nodes',
      file: 'NodeConfig in the user data',
      lines: [
        'apiVersion: node.eks.aws/v1alpha1',
        'kind: NodeConfig',
        'spec:',
        '  containerd:',
        '    config: |',
        ...indented(settingsToml(situation), 6),
      ],
    }),
  },
  {
    name: 'GKE',
    marks: { paths: ['/home/kubernetes/bin'], content: /\/home\/kubernetes\/bin|gke\.gcr\.io\/pause/ },
  },
  {
    name: 'AKS',
    marks: { paths: ['/etc/kubernetes/azure.json'], content: /X-Meta-Source-Client\s*=\s*\["azure\/aks"\]/ },
  },
  { ...rancher('k3s'), name: 'K3s' },
  { ...rancher('rke2'), name: 'RKE2' },
  {
    name: 'K0s',
    settings: { 'containerd-config': '/etc/k0s/containerd.toml', 'containerd-socket': '/run/k0s/containerd.sock' },
    marks: { paths: ['/etc/k0s/containerd.toml'], content: /\/run\/k0s\/containerd-cri\.toml/ },
    remedy: (situation) => ({
      text: 'k0s merges drop-ins when it starts: add this one',
      file: '/etc/k0s/containerd.d/swarmirror.toml',
      lines: [situation.plugin === 'old' ? 'version = 2' : 'version = 3', ...settingsToml(situation)],
      command: RESTART_K0S,
    }),
    restart: RESTART_K0S,
  },
  {
    name: 'Minikube',
    marks: { paths: ['/var/lib/minikube', '/etc/systemd/system/minikube-automount.service'] },
  },
  { name: 'DigitalOcean', marks: { paths: ['/opt/digitalocean'] } },
]

/**
 * The distribution that a node's files reveal; `undefined` if it is unknown, or containerd runs by itself.
 *
 * @param main containerd's main file, with its text if it is readable
 */
export async function recogniseDistribution(
  files: ConfigReader,
  main: string,
  mainText: string | undefined,
): Promise<Distribution | undefined> {
  for (const distribution of DISTRIBUTIONS) {
    const { paths, content } = distribution.marks
    if (mainText !== undefined && content?.test(mainText) === true) return distribution
    if (main === distribution.settings?.['containerd-config']) return distribution
    for (const path of paths) if ((await glob(path, files)).length > 0) return distribution
  }
  return undefined
}

/** The command that makes containerd read its files again. Running containers do not notice, because their shims keep them. */
export function restartOf(view: DistributionView | undefined): string {
  return view?.distribution?.restart ?? 'systemctl restart containerd'
}

/** The parts of containerd's configuration on which the distribution's remedies depend. */
interface DistributionView extends ConfigReading {
  readonly distribution: Distribution | undefined
  readonly expectation: Expectation
}

/** What to do if the distribution itself writes containerd's file. */
export function remedyByDistribution(view: DistributionView): Remedy | undefined {
  const { distribution, expectation, dialect, files } = view
  const plugin = dialect.migration === 'none' || files[0]?.version === 2 ? 'old' : 'images'
  return distribution?.remedy?.({ ...expectation, plugin })
}

/** Makes this program look at the distribution's paths; `undefined` if it does so already, or if there is nothing to look at. */
export function remedyForPaths({ distribution, problems }: DistributionView): Remedy | undefined {
  const problem = problems.find(isMainMissing)
  if (distribution === undefined || problem === undefined) return undefined
  const { name, settings = {} } = distribution
  const lines = Object.entries(settings).map(([setting, path]) => `${variableOf(setting)}=${path}`)
  const used = settings['containerd-config'] === problem.file
  return used || lines.length === 0 ? undefined : { text: `give swarmirror the paths of ${name}`, lines }
}
