/**
 * The calls and events of containerd, and of CRI, that are used here, with the fields that are of use. Names and numbers are those of
 * containerd's `api/` (from 1.6 on) and of CRI v1.
 */
import { type BytesKind, bytes, flag, many, maybe, message, natural, one, pairs, text } from './protobuf.ts'

/** A call: where it goes, what is sent and what comes back. */
export interface Method<Request, Answer> {
  /** The service's full name, a slash and the call's name. */
  readonly path: string
  readonly request: BytesKind<Request>
  readonly answer: BytesKind<Answer>
}

function method<Request, Answer>(
  path: string,
  request: BytesKind<Request>,
  answer: BytesKind<Answer>,
): Method<Request, Answer> {
  return { path, request, answer }
}

const empty = message({})
const filters = message({ filters: many(1, text) })
const byDigest = message({ digest: one(1, text) })

const descriptor = message({ mediaType: one(1, text), digest: one(2, text), size: one(3, natural) })
const info = message({ digest: one(1, text), size: one(2, natural), labels: pairs(5) })
const CONTENT = 'containerd.services.content.v1.Content'
export const content = {
  info: method(`${CONTENT}/Info`, byDigest, message({ info: maybe(1, info) })),
  /** Answers many times. */
  list: method(`${CONTENT}/List`, filters, message({ info: many(1, info) })),
  /** Answers many times. A size of 0 means up to the end. */
  read: method(
    `${CONTENT}/Read`,
    message({ digest: one(1, text), offset: one(2, natural), size: one(3, natural) }),
    message({ data: one(2, bytes) }),
  ),
  delete: method(`${CONTENT}/Delete`, byDigest, empty),
  listStatuses: method(
    `${CONTENT}/ListStatuses`,
    filters,
    message({ statuses: many(1, message({ ref: one(3, text) })) }),
  ),
  abort: method(`${CONTENT}/Abort`, message({ ref: one(1, text) }), empty),
}

const image = message({ name: one(1, text), target: maybe(3, descriptor) })
export type ImageMessage = ReturnType<typeof image.read>
const IMAGES = 'containerd.services.images.v1.Images'
export const images = {
  get: method(`${IMAGES}/Get`, message({ name: one(1, text) }), message({ image: maybe(1, image) })),
  list: method(`${IMAGES}/List`, filters, message({ images: many(1, image) })),
  /** With sync, garbage collection has run when it answers. */
  delete: method(`${IMAGES}/Delete`, message({ name: one(1, text), sync: one(2, flag) }), empty),
}

/** What an event says, by the name of its type: the name stands bare, without a host before it. */
export const any = message({ typeUrl: one(1, text), value: one(2, bytes) })
const envelope = message({ namespace: one(2, text), topic: one(3, text), event: maybe(4, any) })
export type Envelope = ReturnType<typeof envelope.read>
export const events = {
  /** Answers with every event. */
  subscribe: method('containerd.services.events.v1.Events/Subscribe', filters, envelope),
}
/** What the topics /images/create, /images/update and /images/delete carry: a name, never a digest. */
export const imageEvent = message({ name: one(1, text) })
/** What /content/create (since containerd 2.1) and /content/delete carry. */
export const contentEvent = message({ digest: one(1, text) })

const plugin = message({ type: one(1, text), id: one(2, text), exports: pairs(5) })
const INTROSPECTION = 'containerd.services.introspection.v1.Introspection'
export const introspection = {
  plugins: method(`${INTROSPECTION}/Plugins`, filters, message({ plugins: many(1, plugin) })),
  /** The uuid stays for the life of the content below containerd's root; the pid since 1.6. */
  server: method(`${INTROSPECTION}/Server`, empty, message({ uuid: one(1, text), pid: one(2, natural) })),
}

const LEASES = 'containerd.services.leases.v1.Leases'
export const leases = {
  list: method(`${LEASES}/List`, filters, message({ leases: many(1, message({ id: one(1, text) })) })),
  /** The type is "content", "ingests", or "snapshots/" and the snapshotter. */
  listResources: method(
    `${LEASES}/ListResources`,
    message({ id: one(1, text) }),
    message({ resources: many(1, message({ id: one(1, text), type: one(2, text) })) }),
  ),
  /** With sync, garbage collection has run when it answers. */
  delete: method(`${LEASES}/Delete`, message({ id: one(1, text), sync: one(2, flag) }), empty),
}

export const namespaces = {
  list: method(
    'containerd.services.namespaces.v1.Namespaces/List',
    message({ filter: one(1, text) }),
    message({ namespaces: many(1, message({ name: one(1, text) })) }),
  ),
}

export const version = {
  version: method(
    'containerd.services.version.v1.Version/Version',
    empty,
    message({ version: one(1, text), revision: one(2, text) }),
  ),
}

const ofImage = message({ image: maybe(1, message({ image: one(1, text) })) })
const [RUNTIME_SERVICE, IMAGE_SERVICE] = ['runtime.v1.RuntimeService', 'runtime.v1.ImageService']
export const cri = {
  version: method(
    `${RUNTIME_SERVICE}/Version`,
    empty,
    message({ runtimeName: one(2, text), runtimeVersion: one(3, text) }),
  ),
  /** `verbose` asks for `info`, whose entry "config" is the CRI plugin's configuration as JSON on containerd 1.x. */
  status: method(`${RUNTIME_SERVICE}/Status`, message({ verbose: one(1, flag) }), message({ info: pairs(2) })),
  pullImage: method(`${IMAGE_SERVICE}/PullImage`, ofImage, message({ imageRef: one(1, text) })),
  removeImage: method(`${IMAGE_SERVICE}/RemoveImage`, ofImage, empty),
}
