const BLOCK = 512

/** The end of an archive: two empty blocks. */
export const endOfArchive: Buffer = Buffer.alloc(2 * BLOCK)

/** A directory's entry in a POSIX ustar archive. */
export function directoryEntry(path: string): Buffer {
  return header(path, 0, '5', 0o755)
}

/**
 * A file's entry in a POSIX ustar archive: header, content, padding.
 *
 * @param size in bytes, exactly what `content` yields; at most 8 GiB
 */
export async function* fileEntry(
  path: string,
  size: number,
  content: Iterable<Buffer> | AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  yield header(path, size, '0', 0o644)
  yield* content
  yield Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

function header(path: string, size: number, type: '0' | '5', mode: number): Buffer {
  const block = Buffer.alloc(BLOCK)
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, '0')}\0`
  // Name, mode, uid, gid, size, mtime, checksum (spaces while it is computed), type; then magic and version.
  const fields = [path.padEnd(100, '\0'), octal(mode, 8), octal(0, 8), octal(0, 8), octal(size, 12), octal(0, 12)]
  block.write(`${fields.join('')}        ${type}`, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}
