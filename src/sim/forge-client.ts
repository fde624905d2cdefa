import { MayflyError } from "../domain/errors.ts";
import type { JobSighting } from "../domain/job.ts";
import type { Pool } from "../domain/pool.ts";
import type { Program } from "../domain/program.ts";
import type { Runner } from "../domain/runner.ts";
import type { Forge, ForgeEvents, ForgeRequest, KnownJob, Registration } from "../forges/forge.ts";
import type { Chance } from "./chance.ts";
import type { SimClock } from "./clock.ts";
import type { Faults } from "./faults.ts";
import type { SimForge } from "./forge.ts";
import type { Life } from "./life.ts";
import { call, type Trip } from "./network.ts";
import { inOutage } from "./outage.ts";

export interface ForgeClientParts {
  readonly forge: SimForge;
  readonly pools: readonly Pool[];
  readonly clock: SimClock;
  readonly chance: Chance;
  readonly faults: Faults;
  readonly life: Life;
}

/** A forge as the manager meets it: events that are hints, lists that lag, and refusals. */
export class ForgeClient implements Forge {
  readonly name: string;
  readonly #parts: ForgeClientParts;
  #calls = 0;

  constructor(parts: ForgeClientParts) {
    this.#parts = parts;
    this.name = parts.forge.name;
  }

  match(asked: readonly string[], offered: readonly string[]): boolean {
    return this.#parts.forge.rule.match(asked, offered);
  }

  verify({ body }: ForgeRequest): ForgeEvents {
    return { sightings: [JSON.parse(Buffer.from(body).toString()) as JobSighting], note: "" };
  }

  poll(signal: AbortSignal): Promise<readonly JobSighting[]> {
    const { forge } = this.#parts;
    return this.#call("poll", signal, (at) => forge.jobsAt(at));
  }

  find({ externalId, attempt }: KnownJob, signal: AbortSignal): Promise<JobSighting | null> {
    const { forge } = this.#parts;
    return this.#call(`find/${externalId}`, signal, (at) => forge.jobAt(externalId, attempt, at));
  }

  async mint(runner: Runner): Promise<Program> {
    const { forge, pools } = this.#parts;
    const accept = pools.find(({ name }) => name === runner.pool)?.accept ?? [];
    // The manager gives up on it by its own deadline.
    const signal = new AbortController().signal;
    await this.#call(`mint/${runner.name}`, signal, () => forge.register(runner, accept));
    return { files: [], command: ["run"], environment: {}, deadlineSeconds: 7200 };
  }

  registrations(signal: AbortSignal): Promise<readonly Registration[]> {
    const { forge } = this.#parts;
    return this.#call("registrations", signal, (at) => forge.registrationsAt(at));
  }

  remove(name: string, signal: AbortSignal): Promise<"gone" | "busy"> {
    const { forge } = this.#parts;
    return this.#call(`remove/${name}`, signal, () => forge.remove(name));
  }

  #call<T>(what: string, signal: AbortSignal, effect: (at: number) => T): Promise<T> {
    const { chance, clock, faults, life } = this.#parts;
    const where = `${this.name}/${life.generation}/${++this.#calls}/${what}`;
    const isSlow = faults.strikes("forge-slow", where, 0.3);
    const answerMs = isSlow
      ? chance.between(`${where}/slow`, 5_000, 50_000)
      : chance.between(`${where}/answer`, 20, 400);
    const trip: Trip = { clock, life, signal, answerMs, givenUp: () => down("given up") };
    return call(trip, () => {
      if (inOutage("forge-outage", this.name, { faults, now: clock.now() })) {
        throw down("no route to it");
      }
      if (faults.strikes("forge-limit", where, 0.4)) throw down("too many requests this hour");
      const lagMs = faults.strikes("forge-list-lag", where, 0.6) ? 15_000 : 0;
      const answer = effect(clock.now() - lagMs);
      if (faults.strikes("forge-answer-lost", where, 0.4)) throw down("the answer was lost");
      return answer;
    });
  }
}

function down(what: string): MayflyError {
  return new MayflyError("unavailable", what);
}
