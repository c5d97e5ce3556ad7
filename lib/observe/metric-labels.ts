/**
 * What the labels of metrics may be. Each combination that can be foreseen is there from the start, at 0: a counter that
 * appears only with its first event has no increase that `rate()` could see, and alerts on what never happens need it, too.
 */

/** How a transfer from other nodes ended. */
export const TRANSFER_OUTCOMES = ['complete', 'missing', 'cancelled', 'failed', 'corrupt'] as const
/** What came of a request to a peer. */
export const PEER_REQUEST_OUTCOMES = [
  'content',
  'missing',
  'unsatisfiable',
  'busy',
  'outrun',
  'unreachable',
  'silent',
  'invalid',
] as const
/** Why a body of a peer broke off. */
export const BREAK_REASONS = ['unreachable', 'silent', 'invalid', 'slow'] as const
/** Why the peer door refused a request. */
export const REFUSAL_REASONS = ['capability', 'busy'] as const
export const TARGET_KINDS = ['manifest', 'blob'] as const
export const SHARES = ['joined', 'left'] as const
export const YES_OR_NO = ['true', 'false'] as const
export const DOORS = ['registry', 'peer'] as const
export const METHODS = ['GET', 'HEAD', 'other'] as const
/** Where the content of an answer came from; `none`: nobody had it, so that containerd asks upstream. */
export const SOURCES = ['local', 'peer', 'none'] as const
/** Those that have content. */
export const CONTENT_SOURCES = ['local', 'peer'] as const

/** For each label the values that it may have; an empty list for a label that may be anything. */
export type KnownLabels = Readonly<Record<string, readonly string[]>>

/** One value for each label. */
export type LabelsOf<Known extends KnownLabels> = { readonly [Label in keyof Known]: Known[Label][number] }

/** Every combination of the values. */
export function combinations<Known extends KnownLabels>(known: Known): LabelsOf<Known>[] {
  let made: Record<string, string>[] = [{}]
  for (const [label, values] of Object.entries(known)) {
    made = made.flatMap((labels) => values.map((value) => ({ ...labels, [label]: value })))
  }
  return made as LabelsOf<Known>[]
}

/** What the doors are asked and how they answer on a node where all is well. What strangers get is counted apart. */
export const USUAL_REQUESTS = [
  ...CONTENT_SOURCES.flatMap(
    (source) =>
      [
        { door: 'registry', method: 'GET', status: '200', source },
        { door: 'registry', method: 'GET', status: '206', source },
        { door: 'registry', method: 'HEAD', status: '200', source },
      ] as const,
  ),
  { door: 'registry', method: 'GET', status: '404', source: 'none' },
  { door: 'registry', method: 'HEAD', status: '404', source: 'none' },
  { door: 'peer', method: 'GET', status: '200', source: 'local' },
  { door: 'peer', method: 'GET', status: '206', source: 'local' },
  { door: 'peer', method: 'HEAD', status: '200', source: 'local' },
  ...(['GET', 'HEAD'] as const).flatMap((method) =>
    ['404', '503'].map((status) => ({ door: 'peer', method, status, source: 'none' }) as const),
  ),
] as const

/** A peer door never passes on what it would have to fetch. */
export const USUAL_BYTES = [
  { door: 'registry', source: 'local' },
  { door: 'registry', source: 'peer' },
  { door: 'peer', source: 'local' },
] as const
