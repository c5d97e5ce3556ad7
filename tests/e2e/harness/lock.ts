import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeAuthorityCertificate, makeNodeCertificate } from '../../../lib/peers/certificate.ts'
import type { Secret } from '../../doubles/cri.ts'
import { Daemon } from './daemon.ts'
import type { Namespace } from './namespace.ts'

/** The user who may do everything in every repository, whatever is revoked. */
export const OWNER: Secret = { username: 'owner', password: 'owner-secret' }

const TOKEN_PORT = 5001
const SERVICE = 'registry'
const ISSUER = 'token-server'

/** Restricts a registry's images to clients with a secret. */
export interface Lock {
  /** The `auth` section of the registry's configuration. */
  readonly settings: object
  /** A daemon that must run beside the registry. */
  readonly daemon?: Daemon
  /** From now on admits exactly these, and {@link OWNER}. */
  setSecrets(secrets: readonly Secret[]): void
}

/** Passwords that {@link basicLock} accepts, with their bcrypt hashes, which Node cannot make. */
const HASHES: Readonly<Record<string, string>> = {
  'owner-secret': '$2y$05$abcdefghijklmnopqrstuuOA9AgKZ9vSkvHgNT5UopYobjktw3B1e',
  'pull-secret': '$2y$05$abcdefghijklmnopqrstuuiuhH7Ikupt0NZBlrLOsxuBkm7D98a7C',
}

/** HTTP Basic, with a file of hashes that the registry reads again after a change. */
export function basicLock(directory: string): Lock {
  const path = join(directory, 'htpasswd')
  const setSecrets = (secrets: readonly Secret[]) => {
    const lines = [OWNER, ...secrets].map(({ username, password }) => `${username}:${HASHES[password]}\n`)
    writeFileSync(path, lines.join(''))
  }
  setSecrets([])
  return { settings: { htpasswd: { realm: 'basic', path } }, setSecrets }
}

/** Bearer tokens of a token server on the registry's host. A user with a secret may pull from the repositories of that name. */
export function bearerLock(namespace: Namespace, directory: string): Lock {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const bundle = join(directory, 'authority.pem')
  const users = join(directory, 'users.json')
  const signer = join(directory, 'signer.json')
  writeFileSync(bundle, makeAuthorityCertificate(authority))
  const certificate = makeNodeCertificate(authority, own.publicKey, 'token-server')
  const key = own.privateKey.export({ type: 'pkcs8', format: 'pem' })
  writeFileSync(signer, JSON.stringify({ key, certificate, issuer: ISSUER, service: SERVICE, owner: OWNER.username }))
  const setSecrets = (secrets: readonly Secret[]) => {
    const passwords = [OWNER, ...secrets].map(({ username, password }) => [username, password])
    writeFileSync(users, JSON.stringify(Object.fromEntries(passwords)))
  }
  setSecrets([])
  const realm = `http://${namespace.address}:${TOKEN_PORT}/token`
  const daemon = new Daemon({
    name: 'token-server',
    title: 'the token server',
    namespace,
    logDirectory: directory,
    command: process.execPath,
    args: () => [fileURLToPath(new URL('token-server-main.ts', import.meta.url)), String(TOKEN_PORT), signer, users],
    ready: (daemon) => daemon.output('stdout').includes('listening'),
  })
  return {
    settings: { token: { realm, service: SERVICE, issuer: ISSUER, rootcertbundle: bundle } },
    daemon,
    setSecrets,
  }
}
