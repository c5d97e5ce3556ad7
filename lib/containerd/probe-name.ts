/** The name of a probe's registry, with the port of the door that serves it. `.invalid` never resolves (RFC 6761, 6.4). */
const NAME = /^probe-[0-9a-f]{16}-([0-9]{1,5})\.swarmirror\.invalid$/

/** The prefix of the label that says where content came from; the registry's host follows. */
const SOURCE_LABEL = 'containerd.io/distribution.source.'

/** Whether a registry belongs to a probe: of this process, of another, or of a killed one. */
export function isProbeRegistry(registry: string): boolean {
  return NAME.test(registry)
}

/** The port of the door that served a probe. */
export function probePort(registry: string): number | undefined {
  const port = NAME.exec(registry)?.[1]
  return port === undefined ? undefined : Number(port)
}

/** The registry of the probe to which an image's name in containerd belongs, if any. */
export function probeOfName(name: string): string | undefined {
  const [registry = ''] = name.split('/', 1)
  return isProbeRegistry(registry) ? registry : undefined
}

/** Where content came from, by its labels in containerd: each host without its port, and each repository there. */
export function sourcesOfLabels(labels: Readonly<Record<string, string>>): { host: string; repository: string }[] {
  return Object.entries(labels).flatMap(([label, repositories]) => {
    if (!label.startsWith(SOURCE_LABEL)) return []
    const host = label.slice(SOURCE_LABEL.length)
    return repositories.split(',').map((repository) => ({ host, repository }))
  })
}

/** The registry of the probe that content came from, by its labels in containerd, if any. */
export function probeOfLabels(labels: Readonly<Record<string, string>>): string | undefined {
  return sourcesOfLabels(labels).find(({ host }) => isProbeRegistry(host))?.host
}
