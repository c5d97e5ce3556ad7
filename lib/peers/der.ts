/** ASN.1 in its distinguished encoding (ITU-T X.690), as far as a certificate needs it. */

/** The tags of what a certificate is made of. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** Of a field that has a number, with the encoding of what it is inside of it (EXPLICIT). */
export const explicit = (field: number): number => 0xa0 | field
/** Of a field that has a number in place of its own tag (IMPLICIT), of a type that holds no others. */
export const implicit = (field: number): number => 0x80 | field

/** A value with its tag and its length in front. */
export function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents)
  return Buffer.concat([Uint8Array.of(tag), lengthOf(content.length), content])
}

export function sequence(...contents: readonly Uint8Array[]): Uint8Array {
  return der(TAG.sequence, ...contents)
}

/** @param dotted numbers with dots between, at least two */
export function objectIdentifier(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...others] = dotted.split('.').map(Number)
  return der(TAG.objectIdentifier, Uint8Array.from([first * 40 + second, ...others].flatMap(base128)))
}

/** Whole bytes, without unused bits, unless some of the last byte are. */
export function bitString(bytes: Uint8Array, unused = 0): Uint8Array {
  return der(TAG.bitString, Uint8Array.of(unused), bytes)
}

/** A moment to the second; with two digits for the year until 2049, as RFC 5280 (section 4.1.2.5) wants it. */
export function time(moment: Date): Uint8Array {
  const digits = moment
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(/[-:T]/g, '')
  const isShort = moment.getUTCFullYear() < 2050
  return der(isShort ? TAG.utcTime : TAG.generalizedTime, Buffer.from(isShort ? digits.slice(2) : digits))
}

function lengthOf(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length)
  const bytes: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return Uint8Array.of(0x80 | bytes.length, ...bytes)
}

/** Seven bits in each byte, and the eighth in all but the last one. */
function base128(number: number): number[] {
  const bytes = [number % 128]
  for (let rest = Math.floor(number / 128); rest > 0; rest = Math.floor(rest / 128)) bytes.unshift(0x80 | (rest % 128))
  return bytes
}
