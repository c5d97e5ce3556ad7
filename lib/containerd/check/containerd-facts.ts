/** A value that was asked for: there, or the reason why it could not be had, in words. */
export type Fact<T> = { readonly value: T } | { readonly unreadable: string }

/** One plugin of containerd, as its introspection service lists it. */
export interface PluginFact {
  readonly type: string
  readonly id: string
  readonly exports: Readonly<Record<string, string>>
  /** Why it did not start; missing if it did. */
  readonly initError?: string | undefined
}

/**
 * What a running containerd says of itself over its socket. Every part is asked for by itself, so that one refusal does
 * not hide the rest.
 */
export interface ContainerdFacts {
  /** As the version service gives it, with or without a `v` and a suffix: `v1.7.24`, `1.7.24~ds1`, `2.2.0-k3s1`. */
  readonly version: Fact<string>
  /** `info["config"]` of CRI `Status(verbose)`, parsed. 1.6 and 1.7 put their whole CRI configuration here. */
  readonly criConfig: Fact<unknown>
  /** What introspection lists; exports are there on some versions only. */
  readonly plugins: Fact<readonly PluginFact[]>
}
