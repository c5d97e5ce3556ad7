import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'

/** An object as the API server keeps it. */
export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly [field: string]: unknown
  }
  readonly [field: string]: unknown
}

/** The resources of this API server, by the path of their group and version. */
const KINDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '/api/v1': {
    configmaps: 'ConfigMap',
    namespaces: 'Namespace',
    pods: 'Pod',
    resourcequotas: 'ResourceQuota',
    secrets: 'Secret',
    serviceaccounts: 'ServiceAccount',
    services: 'Service',
  },
  '/apis/apps/v1': { daemonsets: 'DaemonSet' },
  '/apis/batch/v1': { jobs: 'Job' },
  '/apis/rbac.authorization.k8s.io/v1': { roles: 'Role', rolebindings: 'RoleBinding' },
}

interface Watcher {
  readonly matches: (path: string, object: KubernetesObject) => boolean
  readonly response: ServerResponse
}

/** An API server in memory, as far as helm needs one: objects, label selectors and watches. It runs no pods. */
export interface Kubernetes {
  /** Its address, for `--kube-apiserver`. */
  readonly url: string
  /** The changes in their order, such as `create Secret swarmirror`. */
  readonly changes: readonly string[]
  get(kind: string, name: string): KubernetesObject | undefined
  /** Every object, as `Kind name`. */
  readonly names: readonly string[]
  /** Makes or changes an object, as a controller or a person would. */
  put(object: KubernetesObject): void
  remove(kind: string, name: string): void
  close(): Promise<void>
}

export async function startKubernetes(): Promise<Kubernetes> {
  const objects = new Map<string, KubernetesObject>()
  const watchers = new Set<Watcher>()
  const changes: string[] = []
  let version = 0

  const nameOf = ({ kind, metadata }: KubernetesObject) => `${kind} ${metadata.name}`
  function tell(
    type: 'ADDED' | 'MODIFIED' | 'DELETED',
    path: string,
    object: KubernetesObject,
    told: Iterable<Watcher> = watchers,
  ): void {
    for (const { matches, response } of told)
      if (matches(path, object)) response.write(`${JSON.stringify({ type, object })}\n`)
  }
  function write(path: string, object: KubernetesObject): KubernetesObject {
    const before = objects.get(path)
    version += 1
    const metadata = { uid: path, generation: 1, ...object.metadata, resourceVersion: String(version) }
    const made = { ...object, metadata }
    objects.set(path, made)
    changes.push(`${before === undefined ? 'create' : 'change'} ${nameOf(made)}`)
    tell(before === undefined ? 'ADDED' : 'MODIFIED', path, made)
    return made
  }

  function remove(path: string, object: KubernetesObject): void {
    objects.delete(path)
    version += 1
    changes.push(`delete ${nameOf(object)}`)
    tell('DELETED', path, object)
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://kubernetes')
    const send = (status: number, body: object) => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    const discovered = discover(pathname) ?? describe(pathname)
    if (discovered !== undefined) return send(200, discovered)
    const target = targetOf(pathname)
    if (target === undefined) return send(404, failure(404, 'NotFound', `${pathname} is not there`))
    const { path, apiVersion, kind, collection, isOne } = target
    const current = objects.get(path)
    if (request.method === 'GET' && !isOne) {
      const selects = selectorOf(searchParams)
      const matches = (path: string, object: KubernetesObject) => path.startsWith(`${collection}/`) && selects(object)
      if (searchParams.get('watch') === null || searchParams.get('watch') === 'false') {
        const items = [...objects].filter(([path, object]) => matches(path, object)).map(([, object]) => object)
        return send(200, { apiVersion, kind: `${kind}List`, metadata: { resourceVersion: String(version) }, items })
      }
      const watcher = { matches, response }
      watchers.add(watcher)
      response.once('close', () => watchers.delete(watcher))
      response.writeHead(200, { 'content-type': 'application/json' })
      response.flushHeaders()
      if (searchParams.get('sendInitialEvents') !== 'true') return
      for (const [path, object] of objects) tell('ADDED', path, object, [watcher])
      const metadata = { resourceVersion: String(version), annotations: { 'k8s.io/initial-events-end': 'true' } }
      response.write(`${JSON.stringify({ type: 'BOOKMARK', object: { apiVersion, kind, metadata } })}\n`)
      return
    }
    if (request.method === 'GET' && current !== undefined) return send(200, current)
    if (request.method === 'DELETE' && current !== undefined) {
      remove(path, current)
      return send(200, { apiVersion: 'v1', kind: 'Status', status: 'Success' })
    }
    const body = (await readObject(request)) as KubernetesObject | undefined
    if (request.method === 'POST' && body !== undefined) {
      const made = `${collection}/${body.metadata.name}`
      if (objects.has(made)) return send(409, failure(409, 'AlreadyExists', `${nameOf(body)} already exists`))
      return send(201, write(made, body))
    }
    // Server-side apply: the body is the whole object, because there is only one manager here.
    if ((request.method === 'PUT' || request.method === 'PATCH') && body !== undefined)
      return send(200, write(path, body))
    send(404, failure(404, 'NotFound', `${kind} ${path} not found`))
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      response.writeHead(500, { 'content-type': 'application/json' })
      response.end(JSON.stringify(failure(500, 'InternalError', String(error))))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    changes,
    get names() {
      return [...objects.values()].map(nameOf)
    },
    get: (kind, name) => [...objects.values()].find((object) => object.kind === kind && object.metadata.name === name),
    put(object) {
      write(pathOf(object), object)
    },
    remove(kind, name) {
      for (const [path, object] of objects)
        if (object.kind === kind && object.metadata.name === name) remove(path, object)
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Answers the first questions of clients: which groups, versions and kinds there are. */
function discover(path: string): object | undefined {
  if (path === '/version') return { major: '1', minor: '34', gitVersion: 'v1.34.0' }
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] }
  if (path === '/apis') {
    const groups = Object.keys(KINDS).flatMap((path) => {
      const [, name, version] = /^\/apis\/(.*)\/(.*)$/.exec(path) ?? []
      const preferredVersion = { groupVersion: `${name}/${version}`, version }
      return name === undefined ? [] : [{ name, versions: [preferredVersion], preferredVersion }]
    })
    return { kind: 'APIGroupList', apiVersion: 'v1', groups }
  }
  const kinds = KINDS[path]
  if (kinds === undefined) return undefined
  const resources = Object.entries(kinds).map(([name, kind]) => ({
    name,
    singularName: kind.toLowerCase(),
    namespaced: kind !== 'Namespace',
    kind,
    verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
  }))
  return { kind: 'APIResourceList', groupVersion: path.replace(/^\/apis?\//, ''), resources }
}

/** The part of the OpenAPI documents from which a client learns that the server validates fields, so the client need not. */
function describe(path: string): object | undefined {
  if (path === '/openapi/v3') {
    const paths = Object.keys(KINDS).map((path) => [path.slice(1), { serverRelativeURL: `/openapi/v3${path}` }])
    return { paths: Object.fromEntries(paths) }
  }
  const root = path.replace(/^\/openapi\/v3/, '')
  const kinds = path === root ? undefined : KINDS[root]
  if (kinds === undefined) return undefined
  const [version, group = ''] = root.split('/').slice(2).reverse()
  const paths = Object.entries(kinds).map(([plural, kind]) => {
    const parameters = [{ name: 'fieldValidation', in: 'query', schema: { type: 'string' } }]
    const patch = { 'x-kubernetes-group-version-kind': { group, version, kind }, parameters, responses: {} }
    return [`${root}/${plural}/{name}`, { patch }]
  })
  return { openapi: '3.0.0', info: { title: 'Kubernetes', version: '1' }, paths: Object.fromEntries(paths) }
}

/** The target of a path: one object, or all objects of a kind. */
function targetOf(path: string) {
  for (const [root, kinds] of Object.entries(KINDS)) {
    if (!path.startsWith(`${root}/`)) continue
    const parts = path.slice(root.length + 1).split('/')
    const [place, plural = '', name] =
      parts[0] === 'namespaces' && parts.length > 2 ? [parts.slice(0, 2), ...parts.slice(2)] : [[], ...parts]
    const kind = kinds[plural]
    if (kind === undefined) return undefined
    const collection = [root, ...place, plural].join('/')
    const isOne = name !== undefined
    return { path: `${collection}/${name}`, apiVersion: root.replace(/^\/apis?\//, ''), kind, collection, isOne }
  }
  return undefined
}

function pathOf({ apiVersion, kind, metadata }: KubernetesObject): string {
  const root = apiVersion === 'v1' ? '/api/v1' : `/apis/${apiVersion}`
  const [plural] = Object.entries(KINDS[root] ?? {}).find(([, known]) => known === kind) ?? []
  const place = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`
  return `${root}${place}/${plural}/${metadata.name}`
}

function selectorOf(query: URLSearchParams): (object: KubernetesObject) => boolean {
  const labels = (query.get('labelSelector') ?? '').split(',').filter(Boolean)
  const [, named] = /^metadata\.name=(.*)$/.exec(query.get('fieldSelector') ?? '') ?? []
  return ({ metadata }) =>
    (named === undefined || metadata.name === named) &&
    labels.every((label) => {
      const [name = '', value] = label.split('=')
      return metadata.labels?.[name] === value
    })
}

function failure(code: number, reason: string, message: string): object {
  return { apiVersion: 'v1', kind: 'Status', status: 'Failure', code, reason, message }
}

/** The first bytes of a protobuf message. Clients send it for Secrets, in which helm keeps its releases. */
const PROTOBUF = Buffer.from('k8s\0')

async function readObject(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  const bytes = Buffer.concat(chunks)
  if (bytes.length === 0) return undefined
  return bytes.subarray(0, 4).equals(PROTOBUF) ? secretOf(bytes.subarray(4)) : JSON.parse(bytes.toString())
}

/** The numbers of fields are those of Kubernetes' generated.proto (runtime, meta/v1 and core/v1). */
function secretOf(bytes: Uint8Array): KubernetesObject {
  const [raw = bytes] = fieldsOf(bytes).get(2) ?? []
  const secret = fieldsOf(raw)
  const metadata = fieldsOf(secret.get(1)?.[0] ?? new Uint8Array())
  const text = (value: Uint8Array | undefined) => Buffer.from(value ?? []).toString()
  const entries = (values: readonly Uint8Array[] = [], encoding: BufferEncoding) =>
    values
      .map(fieldsOf)
      .map((entry) => [text(entry.get(1)?.[0]), Buffer.from(entry.get(2)?.[0] ?? []).toString(encoding)])
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: text(metadata.get(1)?.[0]),
      namespace: text(metadata.get(3)?.[0]),
      labels: Object.fromEntries(entries(metadata.get(11), 'utf8')),
    },
    data: Object.fromEntries(entries(secret.get(2), 'base64')),
    type: text(secret.get(3)?.[0]),
  }
}

/** The length-delimited fields of a message. */
function fieldsOf(bytes: Uint8Array): ReadonlyMap<number, readonly Uint8Array[]> {
  const fields = new Map<number, Uint8Array[]>()
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (type === WireType.LengthDelimited) fields.set(field, [...(fields.get(field) ?? []), reader.bytes()])
    else reader.skip(type, field)
  }
  return fields
}
