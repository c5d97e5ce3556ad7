import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** For each label the values that it may have; an empty list for a label that may be anything. */
export type KnownLabels = Readonly<Record<string, readonly string[]>>

/** One value for each label. */
export type LabelsOf<Known extends KnownLabels> = { readonly [Label in keyof Known]: Known[Label][number] }

/** One metric, for people. */
export interface MetricDescription {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  /** What its labels may be, as far as that is known. */
  readonly values: KnownLabels
  readonly help: string
}

/** A counter whose labels can only be what they are known to be. */
export type KnownCounter<Known extends KnownLabels> = Omit<Counter<keyof Known & string>, 'inc'> & {
  inc(labels: LabelsOf<Known>, value?: number): void
}
export type KnownHistogram<Known extends KnownLabels> = Omit<Histogram<keyof Known & string>, 'observe'> & {
  observe(labels: LabelsOf<Known>, value: number): void
}

/** From a fast answer on the same machine to the longest that a peer is waited for, in seconds. */
export const ANSWER_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
/** From a manifest to a layer of gigabytes over a busy network, in seconds. */
export const TRANSFER_BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1200]

/**
 * The metrics of one mirror. Each part makes what it counts, once; a name that is taken throws.
 *
 * Every combination of labels that can be foreseen is there from the start, at 0: `rate()` sees no increase in a counter
 * that appears with its first event, and an alert on what never happens needs it, too.
 */
export type Metrics = ReturnType<typeof createMetrics>

export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  const descriptions: MetricDescription[] = []

  /** What all kinds have in common. */
  function describe<Label extends string>(
    type: MetricDescription['type'],
    name: string,
    help: string,
    values: Readonly<Record<Label, readonly string[]>>,
  ) {
    const labelNames = Object.keys(values) as Label[]
    // Prometheus itself names what every process has.
    const metric = { name: name.startsWith('process_') ? name : `swarmirror_${name}`, help, labelNames }
    descriptions.push({ name: metric.name, type, labels: labelNames, values, help })
    return { ...metric, registers }
  }

  return {
    counter: (name: string, help: string) => new Counter(describe('counter', name, help, {})),

    /** A counter with labels; `usual` are the combinations that begin at 0, all of them if left out. */
    counters<Known extends KnownLabels>(
      name: string,
      help: string,
      known: Known,
      usual: readonly LabelsOf<Known>[] = combinations(known),
    ): KnownCounter<Known> {
      const made: KnownCounter<Known> = new Counter(describe('counter', name, help, known))
      for (const labels of usual) made.inc(labels, 0)
      return made
    },

    gauge<Label extends string = never>(name: string, help: string, labels: readonly Label[] = []) {
      const values = Object.fromEntries(labels.map((label) => [label, []])) as Record<Label, []>
      return new Gauge(describe('gauge', name, help, values))
    },

    histogram: (name: string, help: string, buckets: number[]) =>
      new Histogram({ ...describe('histogram', name, help, {}), buckets }),

    histograms<Known extends KnownLabels>(
      name: string,
      help: string,
      buckets: number[],
      known: Known,
    ): KnownHistogram<Known> {
      const made = new Histogram({ ...describe('histogram', name, help, known), buckets })
      for (const labels of combinations(known)) made.zero(labels)
      return made
    },

    /** A gauge that is read when somebody asks. */
    looked: (name: string, help: string, look: () => number) =>
      new Gauge({
        ...describe('gauge', name, help, {}),
        collect() {
          this.set(look())
        },
      }),

    /** The same with a label, for the values that it has then. */
    lookedEach: (
      name: string,
      help: string,
      label: string,
      look: () => Iterable<readonly [value: string, of: number]>,
    ) =>
      new Gauge({
        ...describe('gauge', name, help, { [label]: [] }),
        collect() {
          this.reset()
          for (const [value, of] of look()) this.set({ [label]: value }, of)
        },
      }),

    /** A counter that is read when somebody asks. */
    lookedCounter: (name: string, help: string, look: () => number) =>
      new Counter({
        ...describe('counter', name, help, {}),
        collect() {
          this.reset()
          this.inc(look())
        },
      }),

    /** What there is, in the order in which it is rendered. */
    descriptions: descriptions as readonly MetricDescription[],

    /** All of it in Prometheus' text format. */
    async render(): Promise<{ readonly contentType: string; readonly body: string }> {
      return { contentType: registry.contentType, body: await registry.metrics() }
    },
  }
}

/** Every combination of the values. */
export function combinations<Known extends KnownLabels>(known: Known): LabelsOf<Known>[] {
  let made: Record<string, string>[] = [{}]
  for (const [label, values] of Object.entries(known)) {
    made = made.flatMap((labels) => values.map((value) => ({ ...labels, [label]: value })))
  }
  return made as LabelsOf<Known>[]
}
