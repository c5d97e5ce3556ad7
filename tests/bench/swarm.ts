// Announcing and finding at scale, on three runtimes:
//
//   node tests/bench/swarm.ts [--quick] [--grid] [--stages curve,fresh,rest,calibrate] [--runtimes bun,node,deno] [--nodes 5,20] [--digests 100]
//
// The measured node is alone in a process on its runtime; the swarm around it is in processes on Node, on the same machine. So times
// have the load of everybody in them, CPU is the measured process's own. Read the ratios.
import { runCalibrate } from './swarm/calibrate.ts'
import { runCurve } from './swarm/curve.ts'
import { runFresh } from './swarm/fresh.ts'
import { readPlan, type Stage } from './swarm/plan.ts'
import { runRest } from './swarm/rest.ts'

const RUN: Readonly<Record<Stage, typeof runCurve>> = {
  curve: runCurve,
  fresh: runFresh,
  rest: runRest,
  calibrate: runCalibrate,
}

const plan = readPlan(process.argv.slice(2))
console.log(JSON.stringify(plan))
const begin = performance.now()
for (const stage of plan.stages) await RUN[stage](plan)
console.log(`\n${((performance.now() - begin) / 60_000).toFixed(1)} minutes`)
