import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { combinations, type KnownLabels, type LabelsOf } from './metric-labels.ts'

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
type KnownCounter<Known extends KnownLabels> = Omit<Counter<keyof Known & string>, 'inc'> & {
  inc(labels: LabelsOf<Known>, value?: number): void
}
type KnownHistogram<Known extends KnownLabels> = Omit<Histogram<keyof Known & string>, 'observe'> & {
  observe(labels: LabelsOf<Known>, value: number): void
}

/** Makes metrics in a registry of its own, and keeps what is to be said of each. */
export function createMetricSet() {
  const registry = new Registry()
  const registers = [registry]
  const descriptions: MetricDescription[] = []
  /** What all kinds have in common. */
  const described = <Label extends string>(
    type: MetricDescription['type'],
    name: string,
    help: string,
    values: Readonly<Record<Label, readonly string[]>>,
  ) => {
    const labelNames = Object.keys(values) as Label[]
    // Prometheus has names of its own for what every process has.
    const metric = { name: name.startsWith('process_') ? name : `swarmirror_${name}`, help, labelNames }
    descriptions.push({ name: metric.name, type, labels: labelNames, values, help })
    return { ...metric, registers }
  }
  const counter = (name: string, help: string) => new Counter(described('counter', name, help, {}))
  const gauge = <Label extends string = never>(name: string, help: string, labels: readonly Label[] = []) => {
    const values = Object.fromEntries(labels.map((label) => [label, []])) as Record<Label, []>
    return new Gauge(described('gauge', name, help, values))
  }
  /** One counter for each combination of labels, which begin at 0. */
  const counters = <Known extends KnownLabels>(
    name: string,
    help: string,
    known: Known,
    usual: readonly LabelsOf<Known>[] = combinations(known),
  ): KnownCounter<Known> => {
    const made: KnownCounter<Known> = new Counter(described('counter', name, help, known))
    for (const labels of usual) made.inc(labels, 0)
    return made
  }
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ ...described('histogram', name, help, {}), buckets })
  const histograms = <Known extends KnownLabels>(
    name: string,
    help: string,
    buckets: number[],
    known: Known,
  ): KnownHistogram<Known> => {
    const made = new Histogram({ ...described('histogram', name, help, known), buckets })
    for (const labels of combinations(known)) made.zero(labels)
    return made
  }
  /** A gauge, and below a counter, that is looked at when somebody asks. */
  const looked = (name: string, help: string, look: () => number) =>
    new Gauge({
      ...described('gauge', name, help, {}),
      collect() {
        this.set(look())
      },
    })

  const lookedCounter = (name: string, help: string, look: () => number) =>
    new Counter({
      ...described('counter', name, help, {}),
      collect() {
        this.reset()
        this.inc(look())
      },
    })

  return {
    counter,
    counters,
    lookedCounter,
    gauge,
    looked,
    histogram,
    histograms,

    /** What there is, in the order in which it is shown. */
    descriptions: descriptions as readonly MetricDescription[],

    /** All of it in Prometheus' text format. */
    async render(): Promise<{ readonly contentType: string; readonly body: string }> {
      return { contentType: registry.contentType, body: await registry.metrics() }
    },
  }
}
