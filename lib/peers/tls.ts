import { createPrivateKey, createPublicKey, generateKeyPairSync, hkdfSync } from 'node:crypto'
import type { ClientTls } from '../platform/socket-source.ts'
import { type Issuer, makeAuthorityCertificate, makeNodeCertificate } from './certificate.ts'

const PURPOSE = 'swarmirror/tls-authority/1'
/**
 * The name in every node's certificate. It says "a node of this swarm", and not which one. `.internal` is reserved for private
 * use, so no public authority signs a certificate for it.
 */
const SERVER_NAME = 'node.swarmirror.internal'
const CURVE = 'P-256'
/**
 * The start of a private P-256 key in PKCS #8 (RFC 5958, RFC 5915), before the 32 bytes of the key. The public key is left out.
 */
const PRIVATE_KEY = '3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420'
/** The order of P-256's group (SEC 2, section 2.4.2). */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

/**
 * Derives from each swarm key (32 bytes) the key pair of a certificate authority, which is the same on every node. Makes a new
 * key and certificate for this node, signed by the authority of the first swarm key. It writes no file.
 *
 * @param keys the first is used, all are accepted
 * @returns all that the node needs to speak TLS with other nodes of its swarm, as server and as client
 * @throws {RangeError} without any key
 */
export function createTlsIdentity(keys: readonly Uint8Array[]): ClientTls {
  const authorities = keys.map(authorityOf)
  const [used] = authorities
  if (used === undefined) throw new RangeError('expected at least one swarm key')
  const node = generateKeyPairSync('ec', { namedCurve: CURVE })
  return {
    ca: authorities.map(makeAuthorityCertificate),
    cert: makeNodeCertificate(used, node.publicKey, SERVER_NAME),
    key: node.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    servername: SERVER_NAME,
  }
}

/** The P-256 key pair of a swarm key: 48 bytes of HKDF modulo the order, which leaves no bias (FIPS 186-5, A.2.1). */
function authorityOf(swarmKey: Uint8Array): Issuer {
  const wide = BigInt(`0x${Buffer.from(hkdfSync('sha256', swarmKey, '', PURPOSE, 48)).toString('hex')}`)
  const scalar = Buffer.from(((wide % (ORDER - 1n)) + 1n).toString(16).padStart(64, '0'), 'hex')
  const der = Buffer.concat([Buffer.from(PRIVATE_KEY, 'hex'), scalar])
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  return { publicKey: createPublicKey(privateKey), privateKey }
}
