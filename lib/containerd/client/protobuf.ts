/** Protocol Buffers (proto3), as far as the messages need them that are exchanged with containerd. */

/** How values are written (protobuf.dev, "Encoding"). Groups are of no use since proto2. */
const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const

const decoder = new TextDecoder('utf-8', { fatal: true })

/** One kind of value: how it is on the wire, and what it is where it is missing. */
export type Kind<T> = NumberKind<T> | BytesKind<T>
interface NumberKind<T> {
  readonly wire: typeof WIRE.varint
  readonly missing: T
  read(raw: number): T
  write(value: T): number
}
export interface BytesKind<T> {
  readonly wire: typeof WIRE.bytes
  readonly missing: T
  read(raw: Uint8Array): T
  write(value: T): Uint8Array
}

export const text: Kind<string> = {
  wire: WIRE.bytes,
  missing: '',
  read: (raw) => decoder.decode(raw),
  write: (value) => Buffer.from(value),
}
export const bytes: Kind<Uint8Array> = {
  wire: WIRE.bytes,
  missing: new Uint8Array(),
  read: (raw) => raw,
  write: (value) => value,
}
export const flag: Kind<boolean> = {
  wire: WIRE.varint,
  missing: false,
  read: (raw) => raw !== 0,
  write: Number,
}
/** An integer that is not negative and can be told exactly; whatever its type is called (int64, uint64, uint32). */
export const natural: Kind<number> = { wire: WIRE.varint, missing: 0, read: (raw) => raw, write: (value) => value }

/** A field of a message: its number, what it begins with, and how values that come are taken up. */
interface Field<T> {
  readonly number: number
  readonly wire: Kind<T>['wire']
  readonly begin: () => T
  take(before: T, raw: never): T
  raws(value: T): (number | Uint8Array)[]
}

/** A field that is there once, or as its kind has it where it is missing. */
export function one<T>(number: number, kind: Kind<T>): Field<T> {
  return {
    number,
    wire: kind.wire,
    begin: () => kind.missing,
    take: (_, raw) => kind.read(raw),
    raws: (value) => (value === kind.missing ? [] : [kind.write(value)]),
  }
}

/** A message inside of a message, that may be missing. */
export function maybe<T>(number: number, kind: Kind<T>): Field<T | undefined> {
  return {
    number,
    wire: kind.wire,
    begin: () => undefined,
    take: (_, raw) => kind.read(raw),
    raws: (value) => (value === undefined ? [] : [kind.write(value)]),
  }
}

/** A field that may be there many times. Numbers that are packed are not read: no message here has any. */
export function many<T>(number: number, kind: Kind<T>): Field<T[]> {
  return {
    number,
    wire: kind.wire,
    begin: () => [],
    take(before, raw) {
      before.push(kind.read(raw))
      return before
    },
    raws: (values) => values.map((value) => kind.write(value)),
  }
}

/** A `map<string, string>`. */
export function pairs(number: number): Field<Record<string, string>> {
  const entry = message({ key: one(1, text), value: one(2, text) })
  const entries = many(number, entry)
  return {
    ...entries,
    begin: () => ({}),
    take(before, raw) {
      const { key, value } = entry.read(raw)
      // Not by an assignment: `__proto__` would be none.
      Object.defineProperty(before, key, { value, enumerable: true, configurable: true, writable: true })
      return before
    },
    raws: (values) => entries.raws(Object.entries(values).map(([key, value]) => ({ key, value }))),
  }
}

/**
 * A message. Fields that it does not name are passed over when it is read.
 *
 * `read` throws a RangeError for bytes that are no such message, and a TypeError for text that is not UTF-8.
 */
export function message<Value extends object>(fields: { [Name in keyof Value]: Field<Value[Name]> }): BytesKind<Value> {
  const all = Object.entries(fields) as [keyof Value, Field<Value[keyof Value]>][]
  const byNumber = new Map(all.map((entry) => [entry[1].number, entry]))
  const begin = () => Object.fromEntries(all.map(([name, field]) => [name, field.begin()])) as Value
  return {
    wire: WIRE.bytes,
    missing: begin(),
    read(raw) {
      const value = begin()
      const reader = new Reader(raw)
      while (!reader.isAtEnd) {
        const tag = reader.varint()
        const [wire, entry] = [tag % 8, byNumber.get(Math.floor(tag / 8))]
        if (entry === undefined || entry[1].wire !== wire) {
          reader.skip(wire)
          continue
        }
        const [name, field] = entry
        // The field has said what it takes by its kind of wire.
        const found = (wire === WIRE.varint ? reader.varint() : reader.bytes()) as never
        value[name] = field.take(value[name], found)
      }
      return value
    },
    write(value) {
      const parts: Uint8Array[] = []
      for (const [name, { number, wire, raws }] of all) {
        for (const raw of raws(value[name])) {
          parts.push(varint(number * 8 + wire))
          if (typeof raw === 'number') parts.push(varint(raw))
          else parts.push(varint(raw.length), raw)
        }
      }
      return Buffer.concat(parts)
    },
  }
}

/** Most bytes of a number: 64 bits, seven in each. */
const MOST_BYTES = 10

function varint(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} cannot be written as a count`)
  const written: number[] = []
  let rest = value
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) written.push((rest % 0x80) | 0x80)
  return Uint8Array.from([...written, rest])
}

class Reader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length
  }

  varint(): number {
    let value = 0
    for (let shift = 0; shift < MOST_BYTES; shift++) {
      const byte = this.#byte()
      value += (byte & 0x7f) * 2 ** (7 * shift)
      if (byte >= 0x80) continue
      if (!Number.isSafeInteger(value))
        throw new RangeError(`a number of ${shift + 1} bytes where a count was expected`)
      return value
    }
    throw new RangeError('a number without an end')
  }

  bytes(length = this.varint()): Uint8Array {
    const end = this.#at + length
    if (end > this.#bytes.length) throw new RangeError('a field is longer than its message')
    const found = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return found
  }

  skip(wire: number): void {
    if (wire === WIRE.varint) while (this.#byte() >= 0x80);
    else if (wire === WIRE.bytes) this.bytes()
    else if (wire === WIRE.fixed64) this.bytes(8)
    else if (wire === WIRE.fixed32) this.bytes(4)
    else throw new RangeError(`a field of the unknown kind ${wire}`)
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++]
    if (byte === undefined) throw new RangeError('a message ends in the middle of a number')
    return byte
  }
}
