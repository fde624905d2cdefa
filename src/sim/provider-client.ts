import { ProviderError, type ProviderFailure } from "../domain/errors.ts";
import type { Price } from "../domain/money.ts";
import type { Program } from "../domain/program.ts";
import type { Capabilities, Machine, MachineSpec, Provider } from "../providers/provider.ts";
import type { Chance } from "./chance.ts";
import type { SimClock } from "./clock.ts";
import type { Cloud, CloudMachine } from "./cloud.ts";
import type { Faults } from "./faults.ts";
import type { Life } from "./life.ts";
import { call, unanswered, type Trip } from "./network.ts";
import { inOutage } from "./outage.ts";
import type { ProviderPlan } from "./scenario.ts";

export interface ProviderClientParts {
  readonly plan: ProviderPlan;
  readonly cloud: Cloud;
  readonly clock: SimClock;
  readonly chance: Chance;
  readonly faults: Faults;
  readonly life: Life;
  readonly tell: (line: string) => void;
  /** Before a machine is asked for. */
  readonly asking: (spec: MachineSpec, provider: string) => void;
}

/** A provider as the manager meets it: over a network, with all that a network and a cloud do. */
export class ProviderClient implements Provider {
  readonly name: string;
  readonly #parts: ProviderClientParts;
  #calls = 0;

  constructor(parts: ProviderClientParts) {
    this.#parts = parts;
    this.name = parts.plan.name;
  }

  create(spec: MachineSpec, _program: Program, signal: AbortSignal): Promise<Machine> {
    const { cloud, faults, chance, clock, asking, tell } = this.#parts;
    const where = this.#where(`create/${spec.name}`);
    const trip = this.#trip(where, signal);
    const make = (): Machine => asMachine(cloud.create(spec));
    asking(spec, this.name);
    if (faults.strikes("create-hangs", where, 0.2)) {
      tell(`${this.name} never answers the request for ${spec.name}`);
      return unanswered(trip, () => void (chance.at(`${where}/effect`) < 0.5 && make()));
    }
    return call(trip, () => {
      this.#refuseInOutage();
      if (faults.strikes("create-refused", where, 0.4)) throw refusal(chance, where, tell);
      if (faults.strikes("create-late", where, 0.2)) {
        clock.after(chance.between(`${where}/late`, 1_000, 240_000), () => {
          if (cloud.machines.every(({ name }) => name !== spec.name)) cloud.create(spec);
        });
        throw lost("the answer was lost on its way");
      }
      const machine = make();
      if (faults.strikes("create-answer-lost", where, 0.4)) throw lost("the answer was lost");
      return machine;
    });
  }

  list(signal: AbortSignal): Promise<readonly Machine[]> {
    const { cloud, faults, clock } = this.#parts;
    const where = this.#where("list");
    return call(this.#trip(where, signal), () => {
      this.#refuseInOutage();
      if (faults.strikes("list-fails", where, 0.4)) throw lost("the list cannot be had");
      const lagMs = faults.strikes("list-lag", where, 0.6) ? 15_000 : 0;
      return cloud.listAt(clock.now() - lagMs).filter(({ name }) => !cloud.forgets(name, where));
    });
  }

  destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    const { cloud, faults, chance } = this.#parts;
    const where = this.#where(`destroy/${name}`);
    const trip = this.#trip(where, signal);
    if (faults.strikes("destroy-hangs", where, 0.2)) {
      return unanswered(
        trip,
        () => void (chance.at(`${where}/effect`) < 0.5 && cloud.destroy(name)),
      );
    }
    return call(trip, () => {
      this.#refuseInOutage();
      if (faults.strikes("destroy-fails", where, 0.4)) throw lost("it cannot be ended now");
      const outcome = cloud.destroy(name);
      if (faults.strikes("destroy-answer-lost", where, 0.4)) throw lost("the answer was lost");
      return outcome;
    });
  }

  price(): Price {
    return this.#parts.plan.price;
  }

  lends(): Capabilities {
    return {
      architectures: ["x64"],
      maximum: { cpu: 64, memoryMb: 262_144, diskGb: 1_000, gpu: 0, architecture: "x64" },
      channel: "url",
      accepts: ["trusted", "fork"],
      labels: [],
    };
  }

  check = (): Promise<readonly []> => Promise.resolve([]);
  prepare = (): Promise<void> => Promise.resolve();
  close = (): Promise<void> => Promise.resolve();

  #refuseInOutage(): void {
    const { clock, faults } = this.#parts;
    if (inOutage("provider-outage", this.name, { faults, now: clock.now() })) {
      throw lost("no route to it");
    }
  }

  #where(what: string): string {
    return `${this.name}/${this.#parts.life.generation}/${++this.#calls}/${what}`;
  }

  #trip(where: string, signal: AbortSignal): Trip {
    const { clock, life, chance, faults, plan } = this.#parts;
    let answerMs = chance.between(`${where}/answer`, ...plan.answerMs);
    if (faults.strikes("provider-slow", where, 0.3)) {
      answerMs = chance.between(`${where}/slow`, 10_000, 110_000);
    }
    return { clock, life, signal, answerMs, givenUp: () => lost("given up") };
  }
}

const refusals: readonly ProviderFailure[] = ["no_capacity", "quota", "throttled"];

function refusal(chance: Chance, where: string, tell: (line: string) => void): ProviderError {
  const kind = chance.pick(`${where}/refusal`, refusals);
  tell(`a machine is refused: ${kind}`);
  return new ProviderError(kind, "not now", kind === "throttled" ? 3_000 : undefined);
}

function lost(message: string): ProviderError {
  return new ProviderError("unreachable", message);
}

function asMachine({ name, createdAt, endedAt, exitCode }: CloudMachine): Machine {
  const state = endedAt === null ? "booting" : "ended";
  return { name, state, handle: `id-${name}`, createdAt, exitCode };
}
