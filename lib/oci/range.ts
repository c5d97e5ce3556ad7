/** Bytes `start` to `end` of some content, both inclusive and counted from 0, as in HTTP's Content-Range. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}
