/** A processor for which images are made, and its names elsewhere. */
export interface Architecture {
  /** The name in OCI and Debian. */
  readonly name: 'amd64' | 'arm64'
  /** The npm package of Bun for it, linked to glibc like libsodium. */
  readonly bun: string
  /** The directory of its libraries below /usr/lib. */
  readonly triplet: string
  /** The path of the dynamic loader. */
  readonly loader: string
}

export const ARCHITECTURES: readonly Architecture[] = [
  { name: 'amd64', bun: '@oven/bun-linux-x64', triplet: 'x86_64-linux-gnu', loader: '/lib64/ld-linux-x86-64.so.2' },
  { name: 'arm64', bun: '@oven/bun-linux-aarch64', triplet: 'aarch64-linux-gnu', loader: '/lib/ld-linux-aarch64.so.1' },
]
