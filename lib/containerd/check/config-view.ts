import { type Dialect, dialectOf, parseVersion } from '../dialect.ts'
import { type Fact, isUnreadable } from '../rule.ts'
import type { ConfigReader } from './config/glob.ts'
import { type ConfigReading, readConfig } from './config/settings.ts'
import type { Distribution } from './distribution.ts'
import { recogniseDistribution } from './distributions.ts'
import type { ProbeEvidence } from './probe.ts'
import type { ProcessView } from './process.ts'
import { type ContainerdFacts, type ToldSettings, toldSettings } from './told.ts'

/** What the mirror needs of containerd. */
export interface Expectation {
  /** Directory of the hosts.toml files, as containerd sees it. */
  readonly certsDir: string
  /** containerd namespace whose images are mirrored. */
  readonly namespace: string
  /** Host and port of the registry door, as containerd reaches it. */
  readonly registryDoor: string
}

/** containerd's files as this process sees them. */
export interface ConfigFiles extends ConfigReader {
  /** Path of containerd's configuration file. */
  readonly path: string
  /** Finds what gives a distribution away, if not the same reader: its directories are full of what others change. */
  readonly marks?: ConfigReader
}

/** containerd's configuration: what its files say, what it tells of them while it runs, and what is expected. */
export interface ConfigView extends ConfigReading {
  readonly reader: ConfigFiles
  readonly version: Fact<string>
  readonly dialect: Dialect
  /** The version by whose rules the files were read; another one than containerd's only if that is not known. */
  readonly readAs: string
  readonly told: ToldSettings
  readonly distribution: Distribution | undefined
  readonly expectation: Expectation
}

/** What the rules on containerd's configuration read. */
export interface ConfigSnapshot {
  /** `undefined` where containerd does not answer. */
  readonly process: Fact<ProcessView> | undefined
  /** `undefined` where containerd was started with another file: what this one says then means nothing. */
  readonly config: ConfigView | undefined
  readonly probe: ProbeEvidence
}

/** Reads containerd's configuration without touching anything. What cannot be read is told in the result. */
export async function lookAtConfig(
  facts: ContainerdFacts,
  reader: ConfigFiles,
  expectation: Expectation,
): Promise<ConfigView> {
  const { version } = facts
  const known = isUnreadable(version) || parseVersion(version) === undefined ? undefined : version
  const readAs = known ?? (await guessVersion(reader))
  // Where versions differ in this, a list is right on some and wrong on others.
  const dialect = known === undefined ? { ...dialectOf(readAs), splitsConfigPath: false } : dialectOf(known)
  const reading = await readConfig(reader.path, reader, dialect)
  const marks = { ...(reader.marks ?? reader), path: reader.path }
  const distribution = await recogniseDistribution(marks, reading.files[0]?.text)
  return { ...reading, reader, version, dialect, readAs, told: toldSettings(facts), distribution, expectation }
}

/** A version that writes its main file as this one is written. */
async function guessVersion(reader: ConfigFiles): Promise<string> {
  const { files } = await readConfig(reader.path, reader, dialectOf('2.3.0'))
  return ['1.7.24', '1.7.24', '1.7.24', '2.2.0'][files[0]?.version ?? 0] ?? '2.3.0'
}
