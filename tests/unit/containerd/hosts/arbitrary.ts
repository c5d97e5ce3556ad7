import fc from 'fast-check'

/** Names of hosts in a hosts.toml, none of which is the mirror. */
const NAMES = [
  '"https://mirror.example"',
  "'https://other.example:8443/v2'",
  '"http://10.0.0.1:5000/cache"',
  'plain',
  '"registry-1.docker.io"',
]

const comment = fc.constantFrom(
  '# a comment',
  '  # indented',
  '#',
  '# [host."http://127.0.0.1:5000"]',
  '#\t>>> swarmirror',
)
const blank = fc.constantFrom('', '  ', '\t')
const filler = fc.array(fc.oneof(comment, blank), { maxLength: 3 })

const hostPairs: Readonly<Record<string, fc.Arbitrary<string>>> = {
  capabilities: fc.constantFrom('["pull"]', '[ "Pull", "resolve" ]', '["pull",\n  "resolve", # both\n  "push"]', '[]'),
  ca: fc.constantFrom('"ca.crt"', '["a.crt", "/etc/b.crt"]', "'ca.crt'"),
  client: fc.constantFrom('"c.pem"', '[["a.cert", "a.key"]]', '["c.pem"]'),
  skip_verify: fc.constantFrom('true', 'false'),
  override_path: fc.constantFrom('true', 'false'),
  unknown: fc.constantFrom(
    '1',
    '"""\n# >>> swarmirror hosts\n[host."x"]\n"""',
    '{ a = 1 }',
    '1979-05-27T07:32:00Z',
    '0x1F',
  ),
}

const pairs = fc
  .record(hostPairs, { requiredKeys: [] })
  .chain((values) =>
    fc.tuple(
      ...Object.entries(values).map(([key, value]) =>
        fc
          .tuple(filler, fc.constantFrom('', '  ', '\t'))
          .map(([before, indent]) => [...before, `${indent}${key} = ${value}`]),
      ),
    ),
  )

const table = (name: string) =>
  fc
    .record({
      before: filler,
      body: pairs,
      header: fc.boolean(),
      indent: fc.constantFrom('', '  '),
      trailing: fc.boolean(),
    })
    .map(({ before, body, header, indent, trailing }) => [
      ...before,
      `${indent}[host.${name}]${trailing ? ' # theirs' : ''}`,
      ...body.flat(),
      ...(header ? [`${indent}  [host.${name}.header]`, '    x-token = ["a", "b"]', '    y = "z"'] : []),
    ])

/** Files of others that containerd of every version reads, in all their layouts. They have at least one host. */
export const hostsToml: fc.Arbitrary<string> = fc
  .record({
    top: filler,
    server: fc.option(fc.constantFrom('server = "https://registry.example"', 'server = "registry.example" # upstream')),
    root: pairs,
    tables: fc.subarray(NAMES, { minLength: 1 }).chain((names) => fc.tuple(...names.map(table))),
    end: filler,
    eol: fc.constantFrom('\n', '\r\n'),
    final: fc.boolean(),
  })
  .map(({ top, server, root, tables, end, eol, final }) => {
    const lines = [...top, ...(server === null ? [] : [server]), ...root.flat(), ...tables.flat(), ...end]
    return `${lines.join('\n')}${final ? '\n' : ''}`.replaceAll('\n', eol)
  })
