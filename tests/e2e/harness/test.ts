import { after, afterEach } from 'node:test'
import { type Cluster, type ClusterOptions, createCluster } from './cluster.ts'

/**
 * Makes a cluster for the test file that calls it (with top-level await): it is closed after the file's last test, and when
 * a test fails, the daemons' logs are printed.
 */
export async function testCluster(options: ClusterOptions): Promise<Cluster> {
  const cluster = await createCluster(options)
  afterEach((context) => {
    if ('passed' in context && !context.passed) console.error(`${context.name} failed\n${cluster.logs()}`)
  })
  after(() => cluster.close())
  return cluster
}
