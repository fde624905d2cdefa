import { jobStates, type JobSighting, type JobState } from "../domain/job.ts";
import { runnerStates } from "../domain/runner.ts";
import type { MachineSpec } from "../providers/provider.ts";
import type { CloudMachine } from "./cloud.ts";
import type { World } from "./world.ts";

/** What must hold, each by a name that a person can look up. */
export const invariants = {
  "claim-first": "a claim is on record before its machine is asked for",
  "one-name": "a name is given to one machine only",
  max: "a pool never has more machines than its max",
  "no-kill": "we never end a machine whose job runs within its time",
  trust: "a job is never given to a pool that refuses its trust class",
  "no-loss": "what was acknowledged is on record",
  forward: "the state of a job or a runner only moves forward",
  served: "every job that stays wanted runs, in good time once the world is calm",
  "no-leak": "no machine or registration outlives its bound",
  truth: "our record of a job ends as the forge's did",
  history: "the history explains every machine",
  money: "the cost on record covers each machine's whole life",
  counts: "the counts kept are the counts there are",
  rest: "in a calm world with nothing to do, nothing is done in a hurry",
} as const;
export type Invariant = keyof typeof invariants;

export class Violation extends Error {
  readonly invariant: Invariant;

  constructor(invariant: Invariant, detail: string) {
    super(`${invariant} (${invariants[invariant]}): ${detail}`);
    this.invariant = invariant;
  }
}

/** Watches a world. What it finds broken is thrown from `check`, at the moment it happened. */
export class Invariants {
  readonly #world: World;
  readonly #acknowledged: JobSighting[] = [];
  /** Names of machines that some provider was asked for. */
  readonly #asked = new Set<string>();
  /** The state that each job and runner was last seen in. */
  readonly #states = new Map<string, string>();
  #checked = 0;
  #broken: Violation | null = null;

  constructor(world: World) {
    this.#world = world;
  }

  /** Throws the first violation there was. */
  check(): void {
    if (this.#broken !== null) throw this.#broken;
  }

  /** Before a machine is asked for. */
  readonly asking = (spec: MachineSpec, provider: string): void => {
    this.#asked.add(spec.name);
    const world = this.#world;
    const [row] = this.#world.disk.rows(
      "select pool, provider, state from runners where name = ?",
      spec.name,
    );
    // In a transaction that is not committed the claim might still be undone.
    if (row === undefined || world.disk.db.isTransaction) {
      if (row === undefined) this.#break("claim-first", `${spec.name} is unknown to the store`);
      return;
    }
    if (row["provider"] !== provider)
      this.#break("one-name", `${spec.name} is ${String(row["provider"])}'s`);
  };

  /** Whether our record says that this machine is no longer wanted. */
  isOver(name: string): boolean {
    const [row] = this.#world.disk.rows("select state from runners where name = ?", name);
    return row === undefined || row["state"] === "ended" || row["state"] === "gone";
  }

  /** A machine has just been made. */
  made(machine: CloudMachine): void {
    const world = this.#world;
    const namesakes = [...world.clouds.values()]
      .flatMap((cloud) => cloud.alive())
      .filter(({ name }) => name === machine.name);
    if (namesakes.length > 1) this.#break("one-name", `there are two machines ${machine.name}`);
    for (const pool of world.scenario.pools) {
      const alive = [...world.clouds.values()]
        .flatMap((cloud) => cloud.alive())
        .filter(({ name, isLate }) => name.startsWith(`mf-${pool.name}-`) && !isLate);
      if (alive.length > pool.max) {
        this.#break("max", `pool ${pool.name} has ${alive.length} machines of at most ${pool.max}`);
      }
    }
  }

  /** A machine that still exists is about to be ended by us. */
  ending(machine: CloudMachine): void {
    const { clock, forge, scenario } = this.#world;
    const job = forge.runners.get(machine.name)?.job;
    if (job == null || job.endedAt !== null || machine.endedAt !== null) return;
    const pool = scenario.pools.find(({ name }) => machine.name.startsWith(`mf-${name}-`));
    const ranMs = clock.now() - (job.startedAt ?? 0);
    if (ranMs < (pool?.jobDeadlineSeconds ?? 0) * 1000) {
      this.#break("no-kill", `${machine.name} runs job ${job.plan.id} since ${ranMs} ms`);
    }
  }

  /** The manager has answered that it took this event. */
  acknowledged(sighting: JobSighting): void {
    this.#acknowledged.push(sighting);
    this.#checkOnRecord(sighting);
  }

  /** Cheap checks for every moment: only what changed since the last. */
  each(): void {
    const { disk, manager } = this.#world;
    if (manager === null || disk.db.isTransaction) return;
    const [row] = this.#world.disk.rows("select coalesce(max(id), 0) as id from facts");
    if (row?.["id"] === this.#checked) return;
    this.#checked = Number(row?.["id"]);
    this.#checkTrust();
    this.#checkForward();
  }

  /** What must hold when the world is calm and all work is done. */
  atRest(): void {
    for (const sighting of this.#acknowledged) this.#checkOnRecord(sighting);
    this.#checkTruth();
    this.#checkMachines();
    this.#checkCounts();
  }

  fail(invariant: Invariant, detail: string): void {
    this.#break(invariant, detail);
  }

  #break(invariant: Invariant, detail: string): void {
    if (this.#broken !== null) return;
    this.#broken = new Violation(invariant, detail);
    this.#world.tell(`BROKEN ${this.#broken.message}`);
    for (const name of new Set(detail.match(/mf-\w+-\w+/g))) this.#tellHistory(name);
  }

  /** What our own record says of a machine. */
  #tellHistory(name: string): void {
    const { clock, disk, elapsedMs, tell } = this.#world;
    const startedAt = clock.now() - elapsedMs;
    const query = "select at, kind, reason from facts where subject = ? order by id";
    for (const { at, kind, reason } of disk.rows(query, name)) {
      const seconds = ((Number(at) - startedAt) / 1000).toFixed(3);
      tell(`  on record of ${name}: ${seconds} s ${String(kind)}: ${String(reason)}`);
    }
  }

  #checkOnRecord({ externalId, attempt, state }: JobSighting): void {
    const query = "select state from jobs where external_id = ? and attempt = ?";
    const [row] = this.#world.disk.rows(query, externalId, attempt);
    const known = row === undefined ? -1 : jobStates.indexOf(row["state"] as JobState);
    if (known < jobStates.indexOf(state)) {
      const have = row === undefined ? "unknown" : String(row["state"]);
      this.#break("no-loss", `job ${externalId} was told ${state} and is ${have}`);
    }
  }

  #checkTrust(): void {
    for (const { name, accept } of this.#world.scenario.pools) {
      for (const { id, trust } of this.#world.disk.rows(
        "select id, trust from jobs where pool = ?",
        name,
      )) {
        if (!(accept as readonly string[]).includes(String(trust))) {
          this.#break("trust", `job ${String(id)} (${String(trust)}) went to pool ${name}`);
        }
      }
    }
  }

  #checkForward(): void {
    const query = "select id, state from jobs union all select name, state from runners";
    for (const row of this.#world.disk.rows(query)) {
      const [id, state] = [String(row["id"]), String(row["state"])];
      const order: readonly string[] = id.startsWith("mf-") ? runnerStates : jobStates;
      const before = this.#states.get(id);
      if (before !== undefined && order.indexOf(state) < order.indexOf(before)) {
        this.#break("forward", `${id} was ${before} and is ${state}`);
      }
      this.#states.set(id, state);
    }
  }

  #checkTruth(): void {
    const { forge } = this.#world;
    for (const row of this.#world.disk.rows(
      "select external_id, attempt, state, outcome from jobs",
    )) {
      const job = forge.jobs.find(
        ({ plan, attempt }) => plan.id === row["external_id"] && attempt === row["attempt"],
      );
      if (job === undefined || job.endedAt === null) continue;
      if (row["state"] !== "ended" || row["outcome"] !== job.outcome) {
        const have = `${String(row["state"])} ${String(row["outcome"])}`;
        this.#break("truth", `job ${job.plan.id} ended as ${String(job.outcome)}; we say ${have}`);
      }
    }
  }

  #checkMachines(): void {
    const clouds = [...this.#world.clouds.values()];
    for (const machine of clouds.flatMap((cloud) => cloud.machines)) {
      const { name, createdAt, goneAt } = machine;
      const facts = this.#world.disk.rows(
        "select kind, at from facts where subject = ? order by id",
        name,
      );
      const kinds = facts.map(({ kind }) => String(kind));
      if (kinds[0] !== "claimed" || Number(facts[0]?.["at"]) > createdAt) {
        this.#break("history", `${name} was made without a claim before: ${kinds.join(", ")}`);
      }
      // One that was taken back while its request was repeated has a second machine of its name.
      const isAlive = clouds.some((cloud) => cloud.find(name) !== undefined);
      if (goneAt === null || isAlive) continue;
      if (!kinds.includes("gone")) this.#break("history", `${name} is gone: ${kinds.join(", ")}`);
      if (machine.isLate) continue;
      const [row] = this.#world.disk.rows(
        "select claimed_at, gone_at, cost_micro_usd from runners where name = ?",
        name,
      );
      if (Number(row?.["claimed_at"]) > createdAt || Number(row?.["gone_at"]) < goneAt) {
        this.#break("money", `${name} lived longer than its record`);
      }
      if (Number(row?.["cost_micro_usd"]) <= 0) this.#break("money", `${name} cost nothing`);
    }
    this.#checkUnborn();
  }

  /** A manager that died may have asked for what it claimed; one that did not die knows. */
  #checkUnborn(): void {
    const { crashes, disk, faults } = this.#world;
    if (crashes > 0 || faults.happened.has("store-fails")) return;
    const query = "select name from runners where state = 'gone' and cost_micro_usd > 0";
    for (const { name } of disk.rows(query)) {
      if (!this.#asked.has(String(name))) {
        this.#break("money", `${String(name)} was never asked for, and has a cost`);
      }
    }
  }

  #checkCounts(): void {
    for (const { name } of this.#world.scenario.pools) {
      const count = (query: string): number =>
        Number(this.#world.disk.rows(query, name)[0]?.["n"] ?? 0);
      const [total] = this.#world.disk.rows("select * from totals where pool = ?", name);
      const real = {
        waiting: count("select count(*) as n from jobs where pool = ? and state = 'waiting'"),
        booting: count(
          "select count(*) as n from runners where pool = ? and state in ('claimed', 'asked')",
        ),
        idle: count("select count(*) as n from runners where pool = ? and state = 'up'"),
        busy: count("select count(*) as n from runners where pool = ? and state = 'started'"),
        ending: count("select count(*) as n from runners where pool = ? and state = 'ended'"),
      };
      for (const [tally, there] of Object.entries(real)) {
        const kept = Number(total?.[tally] ?? 0);
        if (kept !== there) this.#break("counts", `pool ${name}: ${kept} ${tally} for ${there}`);
      }
    }
  }
}
