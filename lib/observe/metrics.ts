/** The values that each label may have; an empty list if a label may have any value. */
export type KnownLabels = Readonly<Record<string, readonly string[]>>

/** One value for each label. */
export type LabelsOf<Known extends KnownLabels> = { readonly [Label in keyof Known]: Known[Label][number] }

/** One metric, for people. */
export interface MetricDescription {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  /** The values that its labels may have, as far as they are known. */
  readonly values: KnownLabels
  readonly help: string
}

/** In seconds, from a fast answer on the same machine to the longest wait for a peer. */
export const ANSWER_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
/** In seconds, from a manifest to a layer of gigabytes over a busy network. */
export const TRANSFER_BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1200]

/**
 * The metrics of one mirror. Each part registers its own metrics once; a name that is taken throws.
 *
 * Every combination of labels that can be foreseen is there from the start, at 0. Otherwise `rate()` would miss the first event
 * of a counter, and an alert on an event that has never happened would have no series.
 */
export type Metrics = ReturnType<typeof createMetrics>

export function createMetrics() {
  const descriptions: MetricDescription[] = []
  const texts: (() => string)[] = []

  /** @param samples returns the series of the metric, with their present values */
  function register(
    type: MetricDescription['type'],
    shortName: string,
    help: string,
    values: KnownLabels,
    samples: () => readonly Sample[],
  ): void {
    // Names that begin with `process_` are Prometheus' own, the same for every process.
    const name = shortName.startsWith('process_') ? shortName : `swarmirror_${shortName}`
    if (descriptions.some((other) => other.name === name)) throw new Error(`there is a metric ${name} already`)
    descriptions.push({ name, type, labels: Object.keys(values), values, help })
    const head = `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n`
    const line = ([labels, value, ending = '']: Sample) => `${name}${ending}${textOf(labels)} ${value}\n`
    texts.push(() => head + samples().map(line).join(''))
  }

  /** A metric with one number per combination of labels. `usual` are the combinations that are there from the start, at 0. */
  function numbers<Known extends KnownLabels>(
    type: 'counter' | 'gauge',
    name: string,
    help: string,
    known: Known,
    usual: readonly LabelsOf<Known>[],
  ) {
    const series = createSeries(Object.keys(known), () => 0)
    register(type, name, help, known, () => series.all.map(({ labels, value }) => [labels, value]))
    for (const labels of usual) series.at(labels)
    return {
      inc(labels: LabelsOf<Known>, by = 1): void {
        series.at(labels).value += by
      },
      /** The value of each combination so far. */
      get values() {
        return series.all
      },
    }
  }

  const single = (type: 'counter' | 'gauge') => (name: string, help: string) => {
    const { inc } = numbers(type, name, help, {}, [{}])
    return { inc: (by?: number): void => inc({}, by) }
  }

  const singleFrom = (type: 'counter' | 'gauge') => (name: string, help: string, look: () => number) =>
    register(type, name, help, {}, () => [[{}, look()]])

  return {
    counter: single('counter'),

    /** A counter with labels. `usual` are the combinations that are there from the start, at 0; by default all. */
    counters: <Known extends KnownLabels>(
      name: string,
      help: string,
      known: Known,
      usual: readonly LabelsOf<NoInfer<Known>>[] = combinations(known),
    ) => numbers('counter', name, help, known, usual),

    /** A gauge that goes up and, by negative numbers, down. */
    gauge: single('gauge'),

    /** Counts how many observed values are up to each bound. */
    histograms<Known extends KnownLabels>(name: string, help: string, buckets: readonly number[], known: Known) {
      const bounds = [...buckets, Number.POSITIVE_INFINITY]
      const names = [...buckets.map(String), '+Inf']
      const series = createSeries(Object.keys(known), () => ({ counts: bounds.map(() => 0), sum: 0 }))
      register('histogram', name, help, known, () =>
        series.all.flatMap(({ labels, value: { counts, sum } }): Sample[] => [
          ...names.map((le, at): Sample => [{ le, ...labels }, counts[at] ?? 0, '_bucket']),
          [labels, sum, '_sum'],
          [labels, counts.at(-1) ?? 0, '_count'],
        ]),
      )
      for (const labels of combinations(known)) series.at(labels)
      return {
        observe(labels: LabelsOf<Known>, observed: number): void {
          const { value } = series.at(labels)
          value.counts = value.counts.map((count, at) => count + Number(observed <= (bounds[at] as number)))
          value.sum += observed
        },
      }
    },

    /** A gauge that is read when the metrics are rendered. */
    gaugeFrom: singleFrom('gauge'),

    /** Such a gauge with labels, for each combination that there is then. */
    gaugesFrom<Label extends string>(
      name: string,
      help: string,
      labels: readonly Label[],
      look: () => readonly (readonly [labels: Readonly<Record<Label, string>>, value: number])[],
    ): void {
      register('gauge', name, help, Object.fromEntries(labels.map((label) => [label, []])), look)
    },

    /** A counter that is read when the metrics are rendered. */
    counterFrom: singleFrom('counter'),

    /** All metrics, in the order in which they are rendered. */
    descriptions: descriptions as readonly MetricDescription[],

    /** All metrics in Prometheus' text format. */
    render(): { readonly contentType: string; readonly body: string } {
      return { contentType: CONTENT_TYPE, body: texts.map((text) => text()).join('\n') }
    },
  }
}

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

type Labels = Readonly<Record<string, string>>

/** A line of a metric. The lines of a histogram have endings of its name, such as `_sum`. */
type Sample = readonly [labels: Labels, value: number, ending?: string]

/**
 * A value per combination of labels, in the order in which they came.
 *
 * @param first makes the initial value of a combination
 */
function createSeries<Value>(names: readonly string[], first: () => Value) {
  const all = new Map<string, { readonly labels: Labels; value: Value }>()
  return {
    get all() {
      return [...all.values()]
    },
    at(labels: Labels): { value: Value } {
      const key = JSON.stringify(names.map((name) => labels[name]))
      const known = all.get(key) ?? { labels, value: first() }
      all.set(key, known)
      return known
    },
  }
}

/** Labels as text, to put after a metric's name; empty if there are none. */
function textOf(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

/** Escapes line feeds and backslashes. */
function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

/** All combinations of the values. */
export function combinations<const Known extends KnownLabels>(known: Known): LabelsOf<Known>[] {
  let made: Record<string, string>[] = [{}]
  for (const [label, values] of Object.entries(known)) {
    made = made.flatMap((labels) => values.map((value) => ({ ...labels, [label]: value })))
  }
  return made as LabelsOf<Known>[]
}
