import type { JobSighting } from "../domain/job.ts";
import { Chance } from "./chance.ts";
import { SimClock } from "./clock.ts";
import { Cloud } from "./cloud.ts";
import { Disk } from "./database.ts";
import { Faults } from "./faults.ts";
import { label, SimForge, type ForgeJob } from "./forge.ts";
import { Invariants } from "./invariants.ts";
import { Life } from "./life.ts";
import { startManager, type Manager } from "./manager.ts";
import type { JobPlan, Scenario } from "./scenario.ts";

const startsAt = 1_800_000_000_000;

/** Everything there is in one run: forge, clouds, disk, and the manager's lives one after another. */
export class World {
  readonly scenario: Scenario;
  readonly clock = new SimClock(startsAt);
  readonly chance: Chance;
  readonly faults: Faults;
  readonly disk = new Disk();
  readonly forge: SimForge;
  readonly clouds: ReadonlyMap<string, Cloud>;
  readonly invariants: Invariants;
  /** What happened, with when, in milliseconds after the start. */
  readonly story: { readonly atMs: number; readonly line: string }[] = [];
  manager: Manager | null = null;
  #life: Life | null = null;
  #generation = 0;
  #crashes = 0;
  #events = 0;
  #eventsUnderWay = 0;
  #plansLeft: number;

  constructor(scenario: Scenario) {
    const { seed, rule, providers } = scenario;
    this.scenario = scenario;
    this.chance = new Chance(seed);
    this.faults = new Faults(this.chance, scenario.faults, scenario.without);
    this.#plansLeft = scenario.jobs.length;
    const { clock, chance, faults } = this;
    const { tell } = this;
    this.invariants = new Invariants(this);
    this.forge = new SimForge({
      name: "forge",
      rule,
      clock,
      chance,
      tell,
      send: (sighting, where) => this.#send(sighting, where),
    });
    this.clouds = new Map(
      providers.map((plan) => [
        plan.name,
        new Cloud({
          plan,
          clock,
          chance,
          faults,
          forge: this.forge,
          tell,
          isOver: (name) => this.invariants.isOver(name),
          made: (machine) => this.invariants.made(machine),
          ending: (machine) => this.invariants.ending(machine),
        }),
      ]),
    );
  }

  get elapsedMs(): number {
    return this.clock.now() - startsAt;
  }

  /** Steps taken by the manager in this life, which tell whether anything still moves. */
  get steps(): number {
    return this.#generation * 1_000_000 + (this.#life?.steps ?? 0);
  }

  /** True once nothing that was planned is still to come. */
  get isCalm(): boolean {
    return (
      this.faults.over &&
      this.#plansLeft === 0 &&
      this.#eventsUnderWay === 0 &&
      this.manager !== null
    );
  }

  get crashes(): number {
    return this.#crashes;
  }

  /** Jobs not over that some pool of ours is for. */
  wanted(): string[] {
    const { forge, scenario } = this;
    return forge
      .open()
      .filter(({ plan }) =>
        scenario.pools.some(
          ({ accept, labels, name }) =>
            accept.includes(plan.trust) && forge.rule.match(plan.labels, [...labels, name]),
        ),
      )
      .map(label);
  }

  /** What is still there though nobody wants it: machines, registrations, and our own records. */
  leftovers(): string[] {
    const kept = this.#keptWarm();
    const machines = [...this.clouds.values()].flatMap((cloud) => cloud.alive());
    const left = machines.filter(({ name }) => !kept.delete(name)).map(({ name }) => name);
    const known = new Set(machines.map(({ name }) => name));
    for (const { name, removedAt } of this.forge.runners.values()) {
      if (removedAt === null && !known.has(name)) left.push(`registration ${name}`);
    }
    const query = "select name, state from runners where state <> 'gone'";
    for (const { name, state } of this.disk.rows(query)) {
      if (state !== "up" || !known.has(String(name))) left.push(`record ${String(name)}`);
    }
    const open = "select external_id, attempt from jobs where state <> 'ended'";
    for (const { external_id: id, attempt } of this.disk.rows(open)) {
      const job = this.forge.jobAt(String(id), Number(attempt), this.clock.now());
      if (job?.state === "ended") left.push(`record of job ${String(id)}`);
    }
    return left;
  }

  /** Idle machines that a pool shall have ready. */
  #keptWarm(): Set<string> {
    const kept = new Set<string>();
    const query = "select name from runners where pool = ? and state = 'up' order by up_at";
    for (const { name, warm, min } of this.scenario.pools) {
      const idle = this.disk.rows(query, name);
      for (const row of idle.slice(0, Math.max(warm, min))) kept.add(String(row["name"]));
    }
    return kept;
  }

  readonly tell = (line: string): void => {
    this.story.push({ atMs: this.elapsedMs, line });
  };

  begin(): void {
    const { jobs, calmAfterMs } = this.scenario;
    for (const plan of jobs) this.clock.after(plan.atMs, () => this.#submit(plan));
    this.clock.after(calmAfterMs, () => {
      this.faults.over = true;
      this.tell("the world calms down");
    });
    this.#start();
  }

  close(): void {
    this.#life?.end();
    this.disk.close();
  }

  #submit(plan: JobPlan): void {
    const { clock, chance, faults, forge } = this;
    this.#plansLeft--;
    const job = forge.queue(plan);
    if (faults.strikes("job-cancelled", plan.id, 0.4)) {
      this.#plansLeft++;
      clock.after(chance.between(`cancel/${plan.id}`, 0, 90_000), () => {
        this.#plansLeft--;
        forge.cancel(newest(forge, job));
      });
    }
    if (faults.strikes("job-rerun", plan.id, 0.3)) {
      this.#plansLeft++;
      clock.after(chance.between(`rerun/${plan.id}`, 30_000, 180_000), () => {
        this.#plansLeft--;
        forge.rerun(newest(forge, job));
      });
    }
  }

  #start(): void {
    const { clock, chance, faults } = this;
    const generation = ++this.#generation;
    const diesAt = this.#diesAt(generation);
    const life = new Life(
      generation,
      clock,
      (steps) => steps >= diesAt && !faults.over,
      () => this.#buried(life),
    );
    this.#life = life;
    const { scenario, disk, forge, clouds, invariants } = this;
    const { tell } = this;
    const { asking } = invariants;
    startManager({ scenario, clock, chance, faults, disk, forge, clouds, tell, asking }, life).then(
      (manager) => {
        if (life.isDead) return;
        this.manager = manager;
        this.tell(generation === 1 ? "the manager starts" : "the manager is back");
      },
      (error: unknown) => {
        this.tell(`the manager cannot start: ${String(error)}`);
        life.end();
      },
    );
  }

  /** The step before which this life ends. */
  #diesAt(generation: number): number {
    const where = `life/${generation}`;
    if (this.#crashes < 2 && generation > 1 && this.faults.strikes("crash-twice", where, 0.5)) {
      return this.chance.between(where, 1, 40);
    }
    if (generation > 8 || !this.faults.strikes("crash", where, 0.9)) return Infinity;
    // As likely soon after the start as long after it.
    return Math.floor(2 ** (3 + 8 * this.chance.at(where)));
  }

  #buried(life: Life): void {
    this.#crashes++;
    this.disk.recover();
    this.manager = null;
    this.tell(`the manager dies before its step ${life.steps}`);
    this.clock.after(this.chance.between(`down/${life.generation}`, 100, 20_000), () =>
      this.#start(),
    );
  }

  #send(sighting: JobSighting, where: string): void {
    const { chance, faults } = this;
    const place = `${++this.#events}/${where}`;
    if (faults.strikes("event-lost", place, 0.4)) return this.tell(`the event ${where} is lost`);
    const isLate = faults.strikes("event-late", place, 0.4);
    const delayMs = isLate
      ? chance.between(`${place}/late`, 5_000, 200_000)
      : chance.between(`${place}/delay`, 20, 800);
    this.#deliver(sighting, delayMs);
    if (faults.strikes("event-doubled", place, 0.5)) {
      this.#deliver(sighting, chance.between(`${place}/again`, 20, 60_000));
    }
  }

  /** Forges do not repeat an event that nobody took. */
  #deliver(sighting: JobSighting, delayMs: number): void {
    this.#eventsUnderWay++;
    this.clock.after(delayMs, () => {
      this.#eventsUnderWay--;
      const { manager } = this;
      if (manager === null) return;
      const body = Buffer.from(JSON.stringify(sighting));
      manager.fleet.intake.receive(sighting.forge, { headers: {}, body }).then(
        () => {
          if (manager.life.step()) this.invariants.acknowledged(sighting);
        },
        () => {},
      );
    });
  }
}

/** The newest attempt of a job. */
function newest(forge: SimForge, { plan }: ForgeJob): ForgeJob {
  const attempts = forge.jobs.filter((one) => one.plan === plan);
  return attempts.at(-1) as ForgeJob;
}
