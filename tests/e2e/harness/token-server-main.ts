/**
 * A token server as the distribution project specifies it ("Token Authentication Specification"): it gives a registry's clients
 * that show a secret a JSON Web Token for what they ask for. It runs in its own process on the registry's host.
 */
import { randomUUID, sign, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'

/** How long a token is valid, in seconds: short, so that revoking a secret takes effect at once. */
const LIFETIME = 5

const [port, signerFile = '', usersFile = ''] = process.argv.slice(2)
const { key, certificate, issuer, service, owner } = JSON.parse(readFileSync(signerFile, 'utf8'))
const chain = [new X509Certificate(certificate).raw.toString('base64')]

const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** What a user may do of what it asks for: the owner everything, others may pull from repositories of their own name. */
function accessOf(user: string, scopes: readonly string[]) {
  return scopes.flatMap((scope) => {
    const [type = '', name = '', actions = ''] = scope.split(':')
    const wanted = actions.split(',')
    if (user === owner) return [{ type, name, actions: wanted }]
    return name.startsWith(`${user}/`) ? [{ type, name, actions: wanted.filter((action) => action === 'pull') }] : []
  })
}

function tokenFor(user: string, scopes: readonly string[]): string {
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: issuer, sub: user, aud: service, jti: randomUUID(), access: accessOf(user, scopes) }
  const times = { iat: now, nbf: now - LIFETIME, exp: now + LIFETIME }
  const text = `${base64({ typ: 'JWT', alg: 'ES256', x5c: chain })}.${base64({ ...claims, ...times })}`
  return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

createServer((request, response) => {
  const answer = (status: number, body: object = {}) =>
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
  // containerd first tries OAuth by POST, and then this.
  if (request.method !== 'GET') return answer(405)
  const [scheme, shown = ''] = (request.headers.authorization ?? '').split(' ')
  const [user = '', password] = Buffer.from(shown, 'base64').toString().split(':')
  const users = JSON.parse(readFileSync(usersFile, 'utf8'))
  if (scheme !== 'Basic' || users[user] === undefined || users[user] !== password) return answer(401)
  const scopes = new URL(request.url ?? '', 'http://token').searchParams.getAll('scope')
  return answer(200, {
    token: tokenFor(
      user,
      scopes.flatMap((scope) => scope.split(' ')),
    ),
  })
}).listen(Number(port), () => process.stdout.write('listening\n'))
