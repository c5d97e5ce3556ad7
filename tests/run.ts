/**
 * Runs the tests and reports the result on each runtime:
 *
 *   node tests/run.ts [node|deno|bun ...]   what runs on any machine without root; by default on all three runtimes
 *   node tests/run.ts unit                  while you work: tests/unit on Node, in less than a minute
 *   node tests/run.ts e2e [--containerd 1|2] [FILE ...]
 *                                           what needs root, network namespaces and containerd, driven by Node. Without
 *                                           files: everything with mirrors on Node, pulls and stops also on Deno and Bun. Without
 *                                           --containerd: on the machine's own and on the 2.1 of .ci/containerd-2
 *   node tests/run.ts browser [FILE ...]    the page in headless Chromium, of mirrors on every runtime, driven by Node
 *   node tests/run.ts chaos [--containerd 1|2] [FILE ...]
 *                                           pulls while nodes die, fall silent and break, and a soak; driven by Node. On the
 *                                           machine's own containerd; without files, flights also on the 2.1
 *   node tests/run.ts swarm                 a swarm of many nodes on loopback, with churn, driven by Node, without root
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  closeSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = join(import.meta.dirname, '..')
const BIN = join(ROOT, 'node_modules', '.bin')

/** Where Node keeps compiled code. This halves its starting time, and tests start it hundreds of times. */
const NODE_COMPILE_CACHE = join(ROOT, 'node_modules', '.cache', 'node')

/** The longest time of one test on Node, in milliseconds: the soak takes up to 140 s, and the machine may be busy. */
const TEST_TIMEOUT = 420_000

/** Ends the process of a file when its tests are over, as Deno and Bun do by themselves. */
const ENDING = pathToFileURL(join(import.meta.dirname, 'fixtures', 'ending.ts')).href

/** Runs files on Node, each in its own process, two at a time, because they often wait. */
const onNode = (files: readonly string[], timeout = TEST_TIMEOUT) =>
  ['node', `--import=${ENDING}`, '--test', '--test-concurrency=2', `--test-timeout=${timeout}`, ...files] as const

const isUnit = (file: string) => file.startsWith('tests/unit/')

/**
 * Writes modules into the directory that import the unit tests: starting a process for each file and loading its imports again takes
 * longer than its tests. Other files stay as they are.
 *
 * @param count the number of modules, and so of processes
 */
function unitsInOne(files: readonly string[], directory: string, count: number): string[] {
  const units = files.filter(isUnit)
  const modules = Array.from({ length: count }, (_, index) => {
    const module = join(directory, `unit-${index}.test.ts`)
    const imports = units.filter((_, at) => at % count === index)
    writeFileSync(module, imports.map((file) => `import '${pathToFileURL(join(ROOT, file))}'\n`).join(''))
    return module
  })
  return [...modules, ...files.filter((file) => !isUnit(file))]
}

/**
 * The same unmodified suite for each runtime's own runner of `node:test`; `unit` is its part for daily work. A runner may write files
 * into the directory.
 */
const RUNNERS: Readonly<
  Record<string, (files: readonly string[], directory: string) => readonly [string, ...string[]]>
> = {
  node: (files, directory) => onNode(unitsInOne(files, directory, 2)),
  unit: (files, directory) => onNode(unitsInOne(files.filter(isUnit), directory, 2)),
  deno: (files, directory) => {
    const units = unitsInOne(files, directory, 1)
    return ['deno', 'test', '--allow-all', '--no-check', '--quiet', ...units]
  },
  bun: (files) => ['bun', 'test', '--timeout', '180000', ...files.map((file) => `./${file}`)],
}

/**
 * The longest time in minutes for all files on one runtime (they take 5 to 8), and for one file of the other suites (up to 2.5).
 * Generous, because {@link TEST_TIMEOUT} and {@link ENDING} find hanging tests sooner and let the rest go on.
 */
const SUITE_MINUTES = 25
const FILE_MINUTES = 20

/** How long a runner may take after SIGTERM to report what was running, in milliseconds. */
const KILL_AFTER = 10_000

/** The files that run with mirrors on every runtime; the rest of e2e does not depend on the runtime. */
const ON_EACH_RUNTIME = ['tests/e2e/pull.test.ts', 'tests/e2e/stop.test.ts']

/** The files that a second containerd would only repeat. */
const NOT_ON_2: Readonly<Record<string, string>> = {
  'tests/e2e/image.test.ts': 'builds the image and runs it by ctr',
  'tests/e2e/chart.test.ts': 'renders manifests',
  'tests/e2e/chart-use.test.ts': 'runs helm',
  'tests/e2e/harness.test.ts': 'tests the namespaces and daemons of the harness',
  'tests/e2e/metrics.test.ts': 'runs promtool on the metrics of mirrors',
  'tests/e2e/runtimes.test.ts': 'tests mirrors among each other',
  'tests/e2e/swarm.test.ts': 'tests how mirrors find each other',
  'tests/e2e/systemd.test.ts': 'verifies a unit file',
  'tests/e2e/udx-loss.test.ts': 'runs no containerd',
  'tests/e2e/flight-tree.test.ts': 'tests what mirrors agree on',
}

/** What depends on how containerd pulls, of the files that otherwise run on the machine's own containerd only. */
const CHAOS_ON_2 = ['tests/chaos/flight.test.ts', 'tests/chaos/flight-content.test.ts']

/** The environment in which that containerd comes first in PATH. Fetches it if necessary. */
function withContainerd(major: string): Record<string, string> {
  if (major === '1') return {}
  const bin = execFileSync('bash', [join(ROOT, '.ci', 'containerd-2')], { encoding: 'utf8' }).trim()
  return { PATH: `${bin}:${process.env.PATH}` }
}

function filesOf(pattern: string): string[] {
  return globSync(pattern, { cwd: ROOT }).sort()
}

/**
 * Runs a command with the tree's own runtimes, and returns whether it passed. A command that does not end in time fails.
 *
 * @param minutes the longest time that it may take
 * @param output where to write its output; by default the terminal
 */
async function run(
  [command, ...args]: readonly [string, ...string[]],
  minutes: number,
  environment = {},
  output: number | 'inherit' = 'inherit',
): Promise<boolean> {
  const env = { ...process.env, NODE_COMPILE_CACHE, ...environment }
  const child = spawn(join(BIN, command), args, { cwd: ROOT, stdio: ['inherit', output, output], env })
  let killing: NodeJS.Timeout | undefined
  const ending = setTimeout(() => {
    console.log(`\n== ended, since it was not done after ${minutes} minutes: ${command} ${args.slice(-1)}`)
    child.kill('SIGTERM')
    killing = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER)
  }, minutes * 60_000)
  try {
    return await new Promise<boolean>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code) => resolve(code === 0))
    })
  } finally {
    clearTimeout(ending)
    clearTimeout(killing)
  }
}

/** The output of what failed. It comes last, because what people see of a long log is its end. */
const failedLogs: string[] = []

/**
 * Like {@link run}, for one of several commands: shows its output when it is over, because others may run at the same time.
 *
 * @param count how many commands there are
 */
async function runOneOf(
  count: number,
  name: string,
  ...[command, minutes, environment]: Parameters<typeof run>
): Promise<boolean> {
  if (count === 1) return await run(command, minutes, environment)
  const log = join(mkdtempSync(join(tmpdir(), 'swarmirror-tests-')), 'log')
  const output = openSync(log, 'w')
  writeSync(output, `\n== ${name}\n`)
  const passed = await run(command, minutes, environment, output)
  closeSync(output)
  if (passed) show(log)
  else failedLogs.push(log)
  return passed
}

/** Shows the output of a command, and removes its file. */
function show(log: string): void {
  process.stdout.write(readFileSync(log))
  rmSync(dirname(log), { recursive: true })
}

/** Takes two cores for minutes, so it runs alone and only once, with its nodes on Node and Bun. */
const SIMULATION = 'tests/swarm/simulation.test.ts'

const [first, ...rest] = process.argv.slice(2)
const results: { name: string; passed: boolean }[] = []
if (first === 'swarm') {
  console.log('\n== simulated swarm')
  const minutes = process.env.SWARM_SIZE === undefined ? FILE_MINUTES : 3 * FILE_MINUTES
  results.push({ name: 'simulated swarm', passed: await run(onNode([SIMULATION], minutes * 60_000), minutes) })
} else if (first === 'e2e' || first === 'chaos' || first === 'browser') {
  // Each file has its own process and clusters. Files of e2e often wait, so two run at a time; files that depend on time run alone.
  const lanes = first === 'e2e' ? 2 : 1
  const e2e = async (name: string, files: readonly string[], environment = {}) => {
    console.log(`\n== ${name}: ${files.length} files`)
    const failed: string[] = []
    const left = [...files]
    const lane = async () => {
      for (let file = left.shift(); file !== undefined; file = left.shift()) {
        if (!(await runOneOf(files.length, file, onNode([file]), FILE_MINUTES, environment))) failed.push(file)
      }
    }
    await Promise.all(Array.from({ length: lanes }, lane))
    results.push({ name: [name, ...failed].join(' '), passed: failed.length === 0 })
  }
  const { values, positionals } = parseArgs({
    args: rest,
    options: { containerd: { type: 'string' } },
    allowPositionals: true,
  })
  const isOnBoth = first === 'e2e' || (first === 'chaos' && positionals.length === 0)
  const majors = values.containerd === undefined && isOnBoth ? ['1', '2'] : [values.containerd ?? '1']
  for (const major of majors) {
    const environment = withContainerd(major)
    const name = first === 'browser' ? first : `${first} on containerd ${major}`
    if (positionals.length > 0) await e2e(name, positionals, environment)
    else if (first !== 'e2e') {
      const isPart = major === '2' && values.containerd === undefined
      await e2e(name, isPart ? CHAOS_ON_2 : filesOf(`tests/${first}/**/*.test.ts`), environment)
    } else {
      const left = major === '2' ? NOT_ON_2 : {}
      for (const [file, reason] of Object.entries(left)) console.log(`not on containerd ${major}: ${file} ${reason}`)
      const files = filesOf('tests/e2e/**/*.test.ts').filter((file) => !Object.hasOwn(left, file))
      await e2e(`${name}, mirrors on node`, files, environment)
      for (const runtime of ['deno', 'bun'])
        await e2e(`${name}, mirrors on ${runtime}`, ON_EACH_RUNTIME, { ...environment, E2E_RUNTIME: runtime })
    }
  }
} else {
  // All at the same time: Deno and Bun run one file after the other, and tests often wait.
  const groups = first === undefined ? [['node', 'deno', 'bun']] : [first, ...rest].map((name) => [name])
  const files = filesOf('tests/{unit,process,swarm,attacks}/**/*.test.ts').filter((file) => file !== SIMULATION)
  for (const names of groups) {
    const running = names.map((name) => {
      const runner = RUNNERS[name]
      if (runner === undefined)
        throw new Error(
          `unknown runtime ${name}; accepted are ${Object.keys(RUNNERS).join(', ')}, unit, e2e, browser, chaos or swarm`,
        )
      console.log(`\n== tests on ${name}${names.length === 1 ? '' : '; they show their output when they are over'}`)
      // Tests check that they leave nothing there, and must not see what others are about to remove.
      const directory = mkdtempSync(join(tmpdir(), `swarmirror-${name}-`))
      const TMPDIR = join(directory, 'tmp')
      mkdirSync(TMPDIR)
      const command = runner(files, directory)
      const passed = runOneOf(names.length, `tests on ${name}`, command, SUITE_MINUTES, { TMPDIR })
      return { name, passed: passed.finally(() => rmSync(directory, { recursive: true, force: true })) }
    })
    for (const { name, passed } of running) results.push({ name, passed: await passed })
  }
}
failedLogs.forEach(show)
console.log('')
for (const { name, passed } of results) console.log(`== ${name}: ${passed ? 'passed' : 'FAILED'}`)
if (results.some(({ passed }) => !passed)) process.exitCode = 1
