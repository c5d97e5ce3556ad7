import { type ConfigReader, glob } from './config/load.ts'

/** What the mirror needs of containerd. */
export interface Expectation {
  /** The directory of the hosts.toml files, as containerd sees it. */
  readonly certsDir: string
  /** The host and port at which containerd reaches the registry door. */
  readonly registryDoor: string
}

/** A Kubernetes distribution that a node's files reveal. The README says what it comes with and what must be added. */
export interface Distribution {
  readonly name: string
  /** The paths on such a node that differ from the defaults of swarmirror's settings. */
  readonly settings?: Partial<Record<'containerd-config' | 'certs-dir' | 'containerd-socket', string>>
  /** Paths, and contents of containerd's main file; a single match reveals the distribution. */
  readonly marks: { readonly paths: readonly string[]; readonly content?: RegExp }
  /** Where settings go if the distribution writes containerd's file itself. */
  readonly place?: {
    readonly text: string
    readonly file: string
    /** What stands there in place of the settings in TOML. */
    readonly lines?: (registryDoor: string) => readonly string[]
  }
  /** Makes containerd read its files again; by default `systemctl restart containerd`. */
  readonly restart?: string | undefined
}

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
    place: {
      text: `${name} generates containerd's file, and imports drop-ins: add this one (with containerd 1.7, upgrade ${name} first)`,
      file: `${root}/etc/containerd/config-v3.toml.d/swarmirror.toml, below a line version = 3`,
    },
    restart,
  }
}

/** All known distributions. The first one with a matching mark counts, so one that builds on another comes before it. */
export const DISTRIBUTIONS: readonly Distribution[] = [
  {
    name: 'Kind',
    marks: { paths: ['/kind/version', '/kind/product_name'], content: /\/etc\/containerd\/cri-base\.json/ },
    place: {
      text: "a node's containerd is configured when the cluster is created: create it again with this in its configuration",
      file: 'containerdConfigPatches, as in k8s/chart/nodes/kind.yaml',
    },
  },
  {
    name: 'Talos',
    settings: { 'containerd-config': '/etc/cri/containerd.toml', 'certs-dir': '/etc/cri/conf.d/hosts' },
    marks: { paths: ['/etc/cri/containerd.toml', '/etc/cri/conf.d/cri.toml'] },
    place: {
      text: 'Talos writes the file: apply a patch with this to the machine configuration of every node, and reboot it',
      file: 'the patch, as in k8s/chart/nodes/talos.yaml',
    },
    restart: 'talosctl reboot --nodes NODE',
  },
  {
    name: 'EKS, Bottlerocket',
    marks: { paths: ['/.bottlerocket'], content: /default_runtime_name\s*=\s*"shimpei"/ },
    place: {
      text: 'Bottlerocket writes the file from its settings: put this into the user data, and replace the nodes',
      file: 'user data of the nodes',
      lines: (door) => ['[[settings.container-registry.mirrors]]', 'registry = "*"', `endpoint = ["http://${door}"]`],
    },
    restart: 'apiclient reboot',
  },
  {
    name: 'EKS, Amazon Linux 2023',
    marks: { paths: ['/usr/bin/nodeadm', '/etc/eks/nodeadm.d'], content: /\/etc\/containerd\/base-runtime-spec\.json/ },
    place: {
      text: 'nodeadm writes the file when a node starts: put this into the user data, and replace the nodes',
      file: 'spec.containerd.config of the NodeConfig, as in k8s/chart/nodes/eks.yaml',
    },
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
    place: {
      text: 'k0s merges drop-ins when it starts: add this one',
      file: '/etc/k0s/containerd.d/swarmirror.toml, below the version of /run/k0s/containerd-cri.toml',
    },
    restart: 'systemctl restart k0sworker || systemctl restart k0scontroller',
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
