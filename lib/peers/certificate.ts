import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto'
import { bitString, der, explicit, implicit, objectIdentifier, sequence, TAG, time } from './der.ts'

/** From the first to the last moment at which a certificate is good. */
export interface Period {
  readonly from: Date
  readonly to: Date
}

/** Who signs a certificate; a key pair of P-256. */
export interface Issuer {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

/** ecdsa-with-SHA256 (RFC 5758, section 3.2), which has no parameters. */
const ECDSA_WITH_SHA256 = sequence(objectIdentifier('1.2.840.10045.4.3.2'))
/** id-at-commonName (RFC 5280, appendix A.1). */
const COMMON_NAME = objectIdentifier('2.5.4.3')
/** Extensions (RFC 5280, section 4.2.1). */
const EXTENSION = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
} as const
/** serverAuth and clientAuth (RFC 5280, section 4.2.1.12). */
const PURPOSES = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'].map(objectIdentifier)
/** Bits of a KeyUsage (RFC 5280, section 4.2.1.3), counted from the highest one: bit 0, and bit 5. */
const DIGITAL_SIGNATURE = bitString(Uint8Array.of(0x80), 7)
const KEY_CERT_SIGN = bitString(Uint8Array.of(0x04), 2)
const TRUE = der(TAG.boolean, Uint8Array.of(0xff))
/** Bytes of a public key of P-256 as a point: 0x04, then both coordinates (SEC 1, section 2.3.3). */
const POINT = 65

/** The certificate, in PEM, of an authority that signs certificates of nodes and nothing else: `pathLenConstraint` is 0. */
export function makeAuthorityCertificate(authority: Issuer, period: Period): string {
  return makeCertificate(authority, authority.publicKey, nameOf(authority.publicKey), period, [
    extension(EXTENSION.basicConstraints, sequence(TRUE, der(TAG.integer, Uint8Array.of(0))), true),
    extension(EXTENSION.keyUsage, KEY_CERT_SIGN, true),
    extension(EXTENSION.subjectKeyIdentifier, der(TAG.octetString, identifierOf(authority.publicKey))),
  ])
}

/** The certificate, in PEM, of a node that serves and asks others under one DNS name. */
export function makeNodeCertificate(authority: Issuer, publicKey: KeyObject, dnsName: string, period: Period): string {
  return makeCertificate(authority, publicKey, commonName(dnsName), period, [
    // Empty: it is no authority.
    extension(EXTENSION.basicConstraints, sequence(), true),
    extension(EXTENSION.keyUsage, DIGITAL_SIGNATURE, true),
    extension(EXTENSION.extKeyUsage, sequence(...PURPOSES)),
    extension(EXTENSION.subjectAltName, sequence(der(implicit(2), Buffer.from(dnsName)))),
    extension(EXTENSION.authorityKeyIdentifier, sequence(der(implicit(0), identifierOf(authority.publicKey)))),
  ])
}

/** A certificate of version 3 (RFC 5280, section 4.1). */
function makeCertificate(
  issuer: Issuer,
  publicKey: KeyObject,
  subject: Uint8Array,
  { from, to }: Period,
  extensions: readonly Uint8Array[],
): string {
  const signed = sequence(
    der(explicit(0), der(TAG.integer, Uint8Array.of(2))),
    der(TAG.integer, serialNumber()),
    ECDSA_WITH_SHA256,
    nameOf(issuer.publicKey),
    sequence(time(from), time(to)),
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(explicit(3), sequence(...extensions)),
  )
  const certificate = sequence(signed, ECDSA_WITH_SHA256, bitString(sign('sha256', signed, issuer.privateKey)))
  const lines =
    Buffer.from(certificate)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
}

function extension(id: string, value: Uint8Array, isCritical = false): Uint8Array {
  return sequence(objectIdentifier(id), ...(isCritical ? [TRUE] : []), der(TAG.octetString, value))
}

/** Two authorities never share a name, or a verifier that trusts both would try the wrong one. */
function nameOf(publicKey: KeyObject): Uint8Array {
  return commonName(`swarmirror ${Buffer.from(identifierOf(publicKey)).toString('hex').slice(0, 16)}`)
}

function commonName(text: string): Uint8Array {
  return sequence(der(TAG.set, sequence(COMMON_NAME, der(TAG.utf8String, Buffer.from(text)))))
}

/** The first 160 bits of the SHA-256 of the key (RFC 7093, section 2, method 1). */
function identifierOf(publicKey: KeyObject): Uint8Array {
  // What SubjectPublicKeyInfo ends with.
  const point = publicKey.export({ type: 'spki', format: 'der' }).subarray(-POINT)
  return createHash('sha256').update(point).digest().subarray(0, 20)
}

/** A positive integer of 16 bytes by chance, as RFC 5280 (section 4.1.2.2) wants it: unique and not guessable. */
function serialNumber(): Uint8Array {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes
}
