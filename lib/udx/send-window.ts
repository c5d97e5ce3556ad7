import type { Header } from './packet.ts'
import { seqBefore, seqDiff } from './seq.ts'

/** Window that is assumed before the peer has named one, in bytes (that of the addon). */
const INITIAL = 4 * 1024 * 1024

/** The window that the peer offers. */
export class SendWindow {
  /** Bytes that may be outstanding. */
  size = INITIAL
  #seq = 0
  #ack = 0

  /** The number that this side starts with. */
  startAt(seq: number): void {
    this.#ack = seq >>> 0
  }

  /**
   * Takes over the window of a packet. The newest packet counts, whatever overtook it (RFC 9293, section 3.10.7.4: SND.WL1 and
   * SND.WL2).
   *
   * @returns whether the window has become larger
   */
  update(header: Readonly<Header>): boolean {
    const newer = seqDiff(header.seq, this.#seq)
    if (newer < 0 || (newer === 0 && seqBefore(header.ack, this.#ack))) return false
    const opened = header.rwnd > this.size
    this.size = header.rwnd
    this.#seq = header.seq
    this.#ack = header.ack
    return opened
  }
}
