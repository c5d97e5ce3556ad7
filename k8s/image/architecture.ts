/** A processor that images are made for, and how those who have a part in it call it. */
export interface Architecture {
  /** What OCI and Debian call it. */
  readonly name: 'amd64' | 'arm64'
  /** The npm package of its Bun, linked to glibc as libsodium is. */
  readonly bun: string
  /** The directory of its libraries below /usr/lib. */
  readonly triplet: string
  /** Where executables look for the dynamic loader. */
  readonly loader: string
}

export const ARCHITECTURES: readonly Architecture[] = [
  { name: 'amd64', bun: '@oven/bun-linux-x64', triplet: 'x86_64-linux-gnu', loader: '/lib64/ld-linux-x86-64.so.2' },
  { name: 'arm64', bun: '@oven/bun-linux-aarch64', triplet: 'aarch64-linux-gnu', loader: '/lib/ld-linux-aarch64.so.1' },
]
