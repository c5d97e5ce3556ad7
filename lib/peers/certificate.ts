import { createHash, type KeyObject, type KeyPairKeyObjectResult, randomBytes, sign } from 'node:crypto'

/** The key pair, of P-256, that signs a certificate. */
export type Issuer = KeyPairKeyObjectResult

/** Tags of ASN.1 (ITU-T X.680). */
const [BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, UTF8_STRING, UTC_TIME, SEQUENCE, SET] = [
  0x01, 0x02, 0x03, 0x04, 0x0c, 0x17, 0x30, 0x31,
]
/** The tags of numbered fields: around a value (EXPLICIT), or in place of its own tag (IMPLICIT). */
const [EXPLICIT, IMPLICIT] = [0xa0, 0x80]
/** 1.2.840.10045.4.3.2 (RFC 5758, section 3.2), which has no parameters. */
const ECDSA_WITH_SHA256 = sequence(objectIdentifier('2a8648ce3d040302'))
/** 2.5.4.3 (RFC 5280, appendix A.1). */
const COMMON_NAME = objectIdentifier('550403')
/** 2.5.29.17 and 2.5.29.19 (RFC 5280, section 4.2.1). */
const SUBJECT_ALT_NAME = objectIdentifier('551d11')
const BASIC_CONSTRAINTS = objectIdentifier('551d13')
/**
 * The period of all certificates, the same on every node. It does not depend on the clock, which may be years off when a mirror
 * starts on a machine that keeps no time while it is off. A clock before the period would look like a wrong swarm key, so it
 * begins with the clock's own zero. Two-digit years (RFC 5280, section 4.1.2.5) go from 1950 to 2049.
 */
const PERIOD = sequence(utcTime('700101000000Z'), utcTime('491231235959Z'))
/** Bytes of a public key of P-256 as a point: 0x04, then both coordinates (SEC 1, section 2.3.3). */
const POINT = 65

/** Makes the certificate of an authority, in PEM. */
export function makeAuthorityCertificate(authority: Issuer): string {
  const isAuthority = sequence(BASIC_CONSTRAINTS, der(OCTET_STRING, sequence(der(BOOLEAN, Uint8Array.of(0xff)))))
  return makeCertificate(authority, authority.publicKey, nameOf(authority.publicKey), isAuthority)
}

/** Makes the certificate of a node, in PEM, as server and client under one DNS name. The node is no authority. */
export function makeNodeCertificate(authority: Issuer, publicKey: KeyObject, dnsName: string): string {
  const name = sequence(SUBJECT_ALT_NAME, der(OCTET_STRING, sequence(der(IMPLICIT | 2, Buffer.from(dnsName)))))
  return makeCertificate(authority, publicKey, commonName(dnsName), name)
}

/** Makes a certificate of version 3 (RFC 5280, section 4.1). */
function makeCertificate(issuer: Issuer, publicKey: KeyObject, subject: Uint8Array, extension: Uint8Array): string {
  const signed = sequence(
    der(EXPLICIT | 0, der(INTEGER, Uint8Array.of(2))),
    // The serial number is positive, always has the same length, and cannot be guessed.
    der(INTEGER, Uint8Array.of(0x40), randomBytes(15)),
    ECDSA_WITH_SHA256,
    nameOf(issuer.publicKey),
    PERIOD,
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(EXPLICIT | 3, sequence(extension)),
  )
  // The 0 says that the last byte has no unused bits.
  const signature = der(BIT_STRING, Uint8Array.of(0), sign('sha256', signed, issuer.privateKey))
  const base64 = Buffer.from(sequence(signed, ECDSA_WITH_SHA256, signature)).toString('base64')
  return `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`
}

/** A name that differs for each authority. If two shared a name, a verifier that trusts both would try the wrong one. */
function nameOf(publicKey: KeyObject): Uint8Array {
  // SubjectPublicKeyInfo ends with the point.
  const point = publicKey.export({ type: 'spki', format: 'der' }).subarray(-POINT)
  return commonName(`swarmirror ${createHash('sha256').update(point).digest('hex').slice(0, 16)}`)
}

function commonName(text: string): Uint8Array {
  return sequence(der(SET, sequence(COMMON_NAME, der(UTF8_STRING, Buffer.from(text)))))
}

/** Encodes a value of less than 64 KiB in DER (ITU-T X.690): its tag, its length, and its contents. */
function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents)
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Uint8Array.of(tag, ...size), content])
}

function sequence(...contents: readonly Uint8Array[]): Uint8Array {
  return der(SEQUENCE, ...contents)
}

/** @param hex the encoded identifier */
function objectIdentifier(hex: string): Uint8Array {
  return der(0x06, Buffer.from(hex, 'hex'))
}

/** @param text YYMMDDhhmmssZ */
function utcTime(text: string): Uint8Array {
  return der(UTC_TIME, Buffer.from(text))
}
