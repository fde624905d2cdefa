import assert from "node:assert/strict";
import type { Chaos } from "./chaos.ts";
import type { JournalEntry } from "./machines.ts";
import type { ReplicaWorld } from "./world.ts";

/** The reconciler's slow tick, which a take-over may wait for. */
const tickMs = 5_000;
/** Of our own longest pause: what a machine that had so little time for us may have kept others. */
const pausesMax = 20;

/** Holds the journal of the machines and the database against what was asked; tells figures. */
export async function checkAll(world: ReplicaWorld, chaos: Chaos): Promise<string[]> {
  const journal = world.journal();
  return [
    `troubles: ${[...chaos.counts].map(([name, times]) => `${times} ${name}`).join(", ")}`,
    await checkJobs(world, chaos),
    await checkMachines(world, journal),
    checkTakeOvers(world, chaos),
  ];
}

interface JobRow {
  readonly id: string;
  readonly name: string;
  readonly outcome: string | null;
  readonly exit_code: number | null;
  readonly reason: string;
}

async function checkJobs(world: ReplicaWorld, chaos: Chaos): Promise<string> {
  const { rows: jobs } = await world.db.query<JobRow>("select * from jobs");
  const byName = Map.groupBy(jobs, ({ name }) => name);
  const ran = Map.groupBy(world.runs(), (token) => token);
  for (const { token, id, exitCode } of chaos.submitted) {
    const known = byName.get(token) ?? [];
    if (id !== null)
      assert.deepEqual(
        known.map((job) => job.id),
        [id],
        `${token}: acknowledged`,
      );
    for (const job of known) {
      assert.equal(job.exit_code, exitCode, `${token}: ${job.outcome}: ${job.reason}`);
      assert.equal(job.outcome, exitCode === 0 ? "success" : "failure", token);
    }
    assert.equal(ran.get(token)?.length ?? 0, known.length, `${token}: how often it ran`);
  }
  const { rows: facts } = await world.db.query<{ subject: string; kind: string; times: number }>(
    `select subject, kind, count(*)::int as times from facts
      where subject_kind = 'job' and kind in ('seen', 'started', 'ended') group by subject, kind`,
  );
  assert.equal(facts.length, 3 * jobs.length, "each job was seen, started and ended");
  for (const { subject, kind, times } of facts) assert.equal(times, 1, `${subject} ${kind}`);
  const lost = chaos.submitted.filter(({ id }) => id === null).length;
  return `jobs: ${chaos.submitted.length} submitted, ${lost} without an answer, ${jobs.length} ended once each`;
}

async function checkMachines(
  world: ReplicaWorld,
  journal: readonly JournalEntry[],
): Promise<string> {
  const { rows: runners } = await world.db.query<{ name: string; pool: string; state: string }>(
    "select name, pool, state from runners",
  );
  const poolOf = new Map(runners.map(({ name, pool }) => [name, pool]));
  const living = new Map<string, Set<string>>();
  let late = 0;
  const gone = new Set<string>();
  for (const { name, what } of journal) {
    const pool = poolOf.get(name);
    assert.ok(pool !== undefined, `${name}: nobody claimed it`);
    const alive = living.get(pool) ?? new Set();
    living.set(pool, alive);
    if (what === "gone") {
      alive.delete(name);
      gone.add(name);
    }
    if (what !== "made") continue;
    assert.ok(!alive.has(name), `${name}: twice at once`);
    alive.add(name);
    // What was made after its end is removed again, and may stand beside its successor for a while.
    if (gone.has(name)) late += 1;
    const wanted = [...alive].filter((one) => !gone.has(one)).length;
    assert.ok(wanted <= world.options.max, `${pool}: ${wanted} machines at once`);
  }
  for (const alive of living.values()) assert.deepEqual([...alive], [], "machines left");
  await checkHistory(world, journal);
  const made = journal.filter(({ what }) => what === "made").length;
  const again = journal.filter(({ what }) => what === "already").length;
  return `machines: ${made} made, ${again} asked for again, ${late} made after their end and removed`;
}

/** Each machine has the facts of a whole life; the counts that plans are made from are all zero. */
async function checkHistory({ db }: ReplicaWorld, journal: readonly JournalEntry[]): Promise<void> {
  const { rows } = await db.query<{ subject: string; kinds: string[] }>(
    `select subject, array_agg(kind order by id) as kinds from facts
      where subject_kind = 'runner' group by subject`,
  );
  const kindsOf = new Map(rows.map(({ subject, kinds }) => [subject, kinds]));
  for (const { name } of journal) {
    const kinds = kindsOf.get(name) ?? [];
    for (const kind of ["claimed", "ended", "gone"]) {
      assert.equal(kinds.filter((one) => one === kind).length, 1, `${name}: ${kinds.join(", ")}`);
    }
  }
  const { rows: totals } = await db.query(
    "select * from totals where waiting <> 0 or booting <> 0 or idle <> 0 or busy <> 0 or ending <> 0",
  );
  assert.deepEqual(totals, [], "counts that do not add up");
}

function checkTakeOvers({ options }: ReplicaWorld, { takeOvers, longestPauseMs }: Chaos): string {
  const times = takeOvers.map(({ tookMs }) => tookMs).toSorted((a, b) => a - b);
  const longest = times.at(-1) ?? 0;
  assert.ok(times.length > 0, "nothing was ever taken over");
  const limit = options.leaseSeconds * 1000 + tickMs + pausesMax * longestPauseMs;
  assert.ok(longest <= limit, JSON.stringify(takeOvers.filter(({ tookMs }) => tookMs > limit)));
  const median = times[Math.floor(times.length / 2)] ?? 0;
  return `take-overs: ${times.length}, median ${median} ms, longest ${longest} ms, limit ${limit} ms`;
}
