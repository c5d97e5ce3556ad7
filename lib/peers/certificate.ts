import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto'
import { AsnConvert, OctetString } from '@peculiar/asn1-schema'
import * as x509 from '@peculiar/asn1-x509'

/** From the first to the last moment at which a certificate is good. */
export interface Period {
  readonly from: Date
  readonly to: Date
}

/** Who signs a certificate. */
export interface Issuer {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

/** ecdsa-with-SHA256 (RFC 5758, section 3.2), which has no parameters. */
const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2'
/** id-at-commonName (RFC 5280, appendix A.1). */
const COMMON_NAME = '2.5.4.3'

/** The certificate, in PEM, of an authority that signs certificates of nodes and nothing else: `pathLenConstraint` is 0. */
export function makeAuthorityCertificate(authority: Issuer, period: Period): string {
  return makeCertificate(authority, authority.publicKey, nameOf(authority.publicKey), period, [
    extension(x509.id_ce_basicConstraints, new x509.BasicConstraints({ cA: true, pathLenConstraint: 0 }), true),
    extension(x509.id_ce_keyUsage, new x509.KeyUsage(x509.KeyUsageFlags.keyCertSign), true),
    extension(x509.id_ce_subjectKeyIdentifier, new x509.SubjectKeyIdentifier(identifierOf(authority.publicKey))),
  ])
}

/** The certificate, in PEM, of a node that serves and asks others under one DNS name. */
export function makeNodeCertificate(authority: Issuer, publicKey: KeyObject, dnsName: string, period: Period): string {
  return makeCertificate(authority, publicKey, commonName(dnsName), period, [
    extension(x509.id_ce_basicConstraints, new x509.BasicConstraints({ cA: false }), true),
    extension(x509.id_ce_keyUsage, new x509.KeyUsage(x509.KeyUsageFlags.digitalSignature), true),
    extension(x509.id_ce_extKeyUsage, new x509.ExtendedKeyUsage([x509.id_kp_serverAuth, x509.id_kp_clientAuth])),
    extension(x509.id_ce_subjectAltName, new x509.SubjectAlternativeName([new x509.GeneralName({ dNSName: dnsName })])),
    extension(
      x509.id_ce_authorityKeyIdentifier,
      new x509.AuthorityKeyIdentifier({ keyIdentifier: new x509.KeyIdentifier(identifierOf(authority.publicKey)) }),
    ),
  ])
}

function makeCertificate(
  issuer: Issuer,
  publicKey: KeyObject,
  subject: x509.Name,
  period: Period,
  extensions: x509.Extension[],
) {
  const algorithm = new x509.AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 })
  const tbsCertificate = new x509.TBSCertificate({
    version: x509.Version.v3,
    serialNumber: serialNumber(),
    signature: algorithm,
    issuer: nameOf(issuer.publicKey),
    validity: new x509.Validity({ notBefore: period.from, notAfter: period.to }),
    subject,
    subjectPublicKeyInfo: infoOf(publicKey),
    extensions: new x509.Extensions(extensions),
  })
  const signatureValue = sign('sha256', Buffer.from(AsnConvert.serialize(tbsCertificate)), issuer.privateKey)
  const certificate = new x509.Certificate({
    tbsCertificate,
    signatureAlgorithm: algorithm,
    signatureValue: bytesOf(signatureValue),
  })
  const lines =
    Buffer.from(AsnConvert.serialize(certificate))
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n')
}

function extension(id: string, value: unknown, critical = false): x509.Extension {
  return new x509.Extension({ extnID: id, critical, extnValue: new OctetString(AsnConvert.serialize(value)) })
}

/** Two authorities never share a name, or a verifier that trusts both would try the wrong one. */
function nameOf(publicKey: KeyObject): x509.Name {
  return commonName(`swarmirror ${Buffer.from(identifierOf(publicKey)).toString('hex').slice(0, 16)}`)
}

function commonName(text: string): x509.Name {
  const value = new x509.AttributeValue({ utf8String: text })
  return new x509.Name([
    new x509.RelativeDistinguishedName([new x509.AttributeTypeAndValue({ type: COMMON_NAME, value })]),
  ])
}

/** The first 160 bits of the SHA-256 of the key (RFC 7093, section 2, method 1). */
function identifierOf(publicKey: KeyObject): ArrayBuffer {
  return bytesOf(
    createHash('sha256')
      .update(new Uint8Array(infoOf(publicKey).subjectPublicKey))
      .digest()
      .subarray(0, 20),
  )
}

function infoOf(publicKey: KeyObject): x509.SubjectPublicKeyInfo {
  return AsnConvert.parse(publicKey.export({ type: 'spki', format: 'der' }), x509.SubjectPublicKeyInfo)
}

/** A positive integer of 16 bytes by chance, as RFC 5280 (section 4.1.2.2) wants it: unique and not guessable. */
function serialNumber(): ArrayBuffer {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytesOf(bytes)
}

function bytesOf(buffer: Uint8Array): ArrayBuffer {
  return new Uint8Array(buffer).buffer
}
