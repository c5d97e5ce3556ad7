import { posix } from 'node:path'
import { type ConfigReader, glob } from './config/glob.ts'
import { type Distribution, indented, kindConfig, PLAIN_PATHS, settingsToml, talosPatch } from './distribution.ts'

function rancher(name: string): Omit<Distribution, 'id' | 'name' | 'seen'> {
  const root = `/var/lib/rancher/${name}/agent`
  const server = name === 'k3s' ? name : `${name}-server`
  const restart = `systemctl restart ${server} || systemctl restart ${name}-agent`
  return {
    grade: 'yellow',
    configFile: `${root}/etc/containerd/config.toml`,
    certsDir: `${root}/etc/containerd/certs.d`,
    socket: '/run/k3s/containerd/containerd.sock',
    preset: 'config_path on its own certs.d, which it writes anew at each start; layers are kept',
    add: 'the paths as settings; its own `embedded-registry` stays off',
    marks: { paths: [`${root}/etc/containerd/config.toml`], content: new RegExp(`/var/lib/rancher/${name}/agent`) },
    remedy: (situation) => {
      if (situation.plugin === 'old') {
        return { text: `a drop-in would replace all of CRI's settings on containerd 1.7: upgrade ${name} first` }
      }
      return {
        text: `${name} generates containerd's file, and imports drop-ins: add this one`,
        file: `${root}/etc/containerd/config-v3.toml.d/swarmirror.toml`,
        lines: ['version = 3', ...settingsToml(situation)],
        command: restart,
      }
    },
    restart,
  }
}

/** All that are known. The first whose marks fit is taken, so those that are built on another come before it. */
export const DISTRIBUTIONS: readonly Distribution[] = [
  {
    ...PLAIN_PATHS,
    id: 'kind',
    name: 'Kind',
    grade: 'yellow',
    preset: 'discard_unpacked_layers = true; config_path is set in newer node images only',
    add: 'containerdConfigPatches when the cluster is made, with or without the isolated sharing policy',
    seen: 'containerd 2.2.1 (June 2026, kata-containers pull request 13176)',
    marks: { paths: ['/kind/version', '/kind/product_name'], content: /\/etc\/containerd\/cri-base\.json/ },
    remedy: (situation) => ({
      text: "a node's containerd is configured when the cluster is made: make it again with this in its configuration",
      file: 'kind.yaml',
      lines: kindConfig(situation),
      command: 'kind create cluster --config kind.yaml',
    }),
  },
  {
    id: 'talos',
    name: 'Talos',
    grade: 'yellow',
    configFile: '/etc/cri/containerd.toml',
    certsDir: '/etc/cri/conf.d/hosts',
    socket: '/run/containerd/containerd.sock',
    preset: 'config_path = "/etc/cri/conf.d/hosts"; discard_unpacked_layers = true',
    add: 'a machine configuration patch, the paths as settings, and the Pod Security label `privileged` on the namespace',
    seen: 'containerd 2.2.3 on Talos 1.13.0 (2026, read from a node by a user)',
    marks: { paths: ['/etc/cri/containerd.toml', '/etc/cri/conf.d/cri.toml'] },
    remedy: (situation) => ({
      text: 'Talos writes the file: apply this patch to the machine configuration of every node, and reboot it',
      file: 'swarmirror-patch.yaml',
      lines: talosPatch(situation),
      command:
        'talosctl patch machineconfig --nodes NODE --patch @swarmirror-patch.yaml && talosctl reboot --nodes NODE',
    }),
    restart: 'talosctl reboot --nodes NODE',
  },
  {
    ...PLAIN_PATHS,
    id: 'eks-bottlerocket',
    name: 'EKS, Bottlerocket',
    grade: 'yellow',
    preset: 'no config_path: the file is generated, with registry.mirrors from its settings',
    add: 'the mirror for `*` in `settings.container-registry.mirrors`, in place of hosts.toml',
    seen: 'a file of version 2 (2026, published by a user)',
    marks: { paths: ['/.bottlerocket'], content: /default_runtime_name\s*=\s*"shimpei"/ },
    remedy: ({ registryDoor }) => ({
      text: 'Bottlerocket writes the file from its settings: put this into the user data, and replace the nodes',
      file: 'user data of the nodes',
      lines: ['[[settings.container-registry.mirrors]]', 'registry = "*"', `endpoint = ["http://${registryDoor}"]`],
    }),
    restart: 'apiclient reboot',
  },
  {
    ...PLAIN_PATHS,
    id: 'eks-al2023',
    name: 'EKS, Amazon Linux 2023',
    grade: 'yellow',
    preset: 'config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"; discard_unpacked_layers = true',
    add: '`spec.containerd.config` in the NodeConfig of the nodes’ user data',
    seen: 'templates for containerd 1.7 and 2.x (2026, awslabs/amazon-eks-ami)',
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
    ...PLAIN_PATHS,
    id: 'gke',
    name: 'GKE',
    grade: 'yellow',
    preset:
      'no config_path, and registry.mirrors for Docker Hub, which excludes it; nodes are written anew at each upgrade',
    add: 'from 1.34 on registry hosts for the node pools, see `k8s/overlays/gke`; before that only an init step that edits the file and restarts containerd (see GKE)',
    seen: 'containerd 2.1.5 (April 2026, read from a node by a user)',
    marks: { paths: ['/home/kubernetes/bin'], content: /\/home\/kubernetes\/bin|gke\.gcr\.io\/pause/ },
  },
  {
    ...PLAIN_PATHS,
    id: 'aks',
    name: 'AKS',
    grade: 'green',
    preset: 'config_path = "/etc/containerd/certs.d"; layers are kept',
    add: 'nothing',
    seen: 'a file of version 2 (2026, Azure/AgentBaker)',
    marks: { paths: ['/etc/kubernetes/azure.json'], content: /X-Meta-Source-Client\s*=\s*\["azure\/aks"\]/ },
  },
  { ...rancher('k3s'), id: 'k3s', name: 'K3s', seen: 'files of version 2 and 3 (2026, k3s-io/k3s)' },
  { ...rancher('rke2'), id: 'rke2', name: 'RKE2', seen: 'as K3s, which it is made from' },
  {
    id: 'k0s',
    name: 'K0s',
    grade: 'yellow',
    configFile: '/etc/k0s/containerd.toml',
    certsDir: '/etc/containerd/certs.d',
    socket: '/run/k0s/containerd.sock',
    preset: 'no config_path; layers are kept; drop-ins of /etc/k0s/containerd.d are merged by k0s',
    add: 'a drop-in in /etc/k0s/containerd.d, and the paths as settings',
    seen: 'containerd 1.7.30 on k0s 1.34.3 (2026, read from a node by a user)',
    marks: { paths: ['/etc/k0s/containerd.toml'], content: /\/run\/k0s\/containerd-cri\.toml/ },
    remedy: (situation) => ({
      text: 'k0s merges drop-ins when it starts: add this one',
      file: '/etc/k0s/containerd.d/swarmirror.toml',
      lines: [situation.plugin === 'old' ? 'version = 2' : 'version = 3', ...settingsToml(situation)],
      command: 'systemctl restart k0sworker || systemctl restart k0scontroller',
    }),
    restart: 'systemctl restart k0sworker || systemctl restart k0scontroller',
  },
  {
    ...PLAIN_PATHS,
    id: 'minikube',
    name: 'Minikube',
    grade: 'yellow',
    preset:
      'with `--container-runtime=containerd`: config_path = "/etc/containerd/certs.d"; discard_unpacked_layers = true',
    add: 'the change that `check` prints, made on the node (`minikube ssh`) after each `minikube start`',
    seen: 'a file of version 2 (2024, kubernetes/minikube)',
    marks: { paths: ['/var/lib/minikube', '/etc/systemd/system/minikube-automount.service'] },
  },
  {
    ...PLAIN_PATHS,
    id: 'digitalocean',
    name: 'DigitalOcean',
    grade: 'red',
    preset: 'no config_path',
    add: 'not as it comes; an init step as for GKE is possible, with the same risks',
    seen: 'not established',
    marks: { paths: ['/opt/digitalocean'] },
  },
  {
    ...PLAIN_PATHS,
    id: 'vke',
    name: 'VKE (Vultr)',
    grade: 'yellow',
    preset: 'config_path, as far as is known from others; it is not recognised, and checked as containerd by itself',
    add: 'host ports outside the ephemeral range, as the default ones are',
    seen: 'not established',
    marks: { paths: [] },
  },
]

/**
 * The distribution that a node's files give away; `undefined` for none that is known, as containerd by itself.
 *
 * @param mainText containerd's main file, if it could be read
 */
export async function recogniseDistribution(
  files: ConfigReader & { readonly path: string },
  mainText: string | undefined,
): Promise<Distribution | undefined> {
  for (const distribution of DISTRIBUTIONS) {
    const { paths, content } = distribution.marks
    if (mainText !== undefined && content?.test(mainText) === true) return distribution
    if (files.path === distribution.configFile && files.path !== PLAIN_PATHS.configFile) return distribution
    for (const path of paths) {
      if ((await glob(posix.normalize(path), files)).length > 0) return distribution
    }
  }
  return undefined
}
