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

  /** @param lines returns the series of the metric, with their present values */
  function register<Label extends string>(
    type: MetricDescription['type'],
    shortName: string,
    help: string,
    values: Readonly<Record<Label, readonly string[]>>,
    lines: (name: string) => Iterable<string>,
  ): void {
    // Names that begin with `process_` are Prometheus' own, the same for every process.
    const name = shortName.startsWith('process_') ? shortName : `swarmirror_${shortName}`
    if (descriptions.some((other) => other.name === name)) throw new Error(`there is a metric ${name} already`)
    descriptions.push({ name, type, labels: Object.keys(values), values, help })
    const head = `# HELP ${name} ${escaped(help)}\n# TYPE ${name} ${type}\n`
    texts.push(() => `${head}${[...lines(name)].map((line) => `${line}\n`).join('')}`)
  }

  /** A metric with a single number. */
  function single(type: 'counter' | 'gauge', name: string, help: string, look: () => number): void {
    register(type, name, help, {}, (full) => [`${full} ${look()}`])
  }

  /** A metric with one number per combination of labels. */
  function numbers<Known extends KnownLabels>(type: 'counter' | 'gauge', name: string, help: string, known: Known) {
    const series = new Series(Object.keys(known), () => 0)
    register(type, name, help, known, (full) =>
      series.all.map(({ labels, value }) => `${full}${textOf(labels)} ${value}`),
    )
    return series
  }

  return {
    counter(name: string, help: string) {
      let value = 0
      single('counter', name, help, () => value)
      return {
        inc(by = 1): void {
          value += by
        },
      }
    },

    /** A counter with labels. `usual` are the combinations that are there from the start, at 0; by default all. */
    counters<Known extends KnownLabels>(
      name: string,
      help: string,
      known: Known,
      usual: readonly LabelsOf<Known>[] = combinations(known),
    ) {
      const series = numbers('counter', name, help, known)
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
    },

    /** A gauge that goes up and down. */
    gauge(name: string, help: string) {
      let value = 0
      single('gauge', name, help, () => value)
      return {
        inc(): void {
          value += 1
        },
        dec(): void {
          value -= 1
        },
      }
    },

    /** A gauge whose labels may have any value. */
    gauges<Label extends string>(name: string, help: string, labels: readonly Label[]) {
      const known = Object.fromEntries(labels.map((label) => [label, []])) as Record<Label, []>
      const series = numbers('gauge', name, help, known)
      return {
        set(labels: Readonly<Record<Label, string>>, value: number): void {
          series.at(labels).value = value
        },
      }
    },

    /** Counts how many observed values are up to each bound. */
    histograms<Known extends KnownLabels>(name: string, help: string, buckets: readonly number[], known: Known) {
      const series = new Series(Object.keys(known), () => ({ counts: buckets.map(() => 0), sum: 0, count: 0 }))
      register('histogram', name, help, known, function* (full) {
        for (const { labels, value } of series.all) {
          let upTo = 0
          for (const [index, bound] of buckets.entries()) {
            upTo += value.counts[index] ?? 0
            yield `${full}_bucket${textOf({ le: String(bound), ...labels })} ${upTo}`
          }
          yield `${full}_bucket${textOf({ le: '+Inf', ...labels })} ${value.count}`
          yield `${full}_sum${textOf(labels)} ${value.sum}`
          yield `${full}_count${textOf(labels)} ${value.count}`
        }
      })
      for (const labels of combinations(known)) series.at(labels)
      return {
        observe(labels: LabelsOf<Known>, observed: number): void {
          const { value } = series.at(labels)
          const bucket = buckets.findIndex((bound) => observed <= bound)
          if (bucket >= 0) value.counts[bucket] = (value.counts[bucket] ?? 0) + 1
          value.sum += observed
          value.count += 1
        },
      }
    },

    /** A gauge that is read when the metrics are rendered. */
    gaugeFrom: (name: string, help: string, look: () => number): void => single('gauge', name, help, look),

    /** Such a gauge with a label, for each value that the label has then. */
    gaugesFrom(
      name: string,
      help: string,
      label: string,
      look: () => Iterable<readonly [value: string, of: number]>,
    ): void {
      register('gauge', name, help, { [label]: [] }, (full) =>
        [...look()].map(([value, of]) => `${full}${textOf({ [label]: value })} ${of}`),
      )
    },

    /** A counter that is read when the metrics are rendered. */
    counterFrom: (name: string, help: string, look: () => number): void => single('counter', name, help, look),

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

/** A value per combination of labels, in the order in which they came. */
class Series<Value> {
  readonly #names: readonly string[]
  readonly #first: () => Value
  readonly #all = new Map<string, { readonly labels: Labels; value: Value }>()

  /** @param first makes the initial value of a combination */
  constructor(names: readonly string[], first: () => Value) {
    this.#names = names
    this.#first = first
  }

  get all() {
    return [...this.#all.values()]
  }

  at(labels: Labels): { value: Value } {
    const key = JSON.stringify(this.#names.map((name) => labels[name]))
    const known = this.#all.get(key)
    if (known !== undefined) return known
    const made = { labels, value: this.#first() }
    this.#all.set(key, made)
    return made
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
export function combinations<Known extends KnownLabels>(known: Known): LabelsOf<Known>[] {
  let made: Record<string, string>[] = [{}]
  for (const [label, values] of Object.entries(known)) {
    made = made.flatMap((labels) => values.map((value) => ({ ...labels, [label]: value })))
  }
  return made as LabelsOf<Known>[]
}
