import { after, afterEach, beforeEach } from 'node:test'
import { type Cluster, type ClusterOptions, createCluster, type LogMarks } from './cluster.ts'

/**
 * Makes a cluster for the test file that calls it (with top-level await). Closes it after the file's last test. When a test
 * fails, prints what the daemons logged during it.
 */
export async function testCluster(options: ClusterOptions): Promise<Cluster> {
  const cluster = await createCluster(options)
  let marks: LogMarks = new Map()
  beforeEach(() => {
    marks = cluster.markLogs()
  })
  afterEach((context) => {
    if ('passed' in context && !context.passed) console.error(`${context.name} failed\n${cluster.logs(marks)}`)
  })
  after(() => cluster.close())
  return cluster
}
