import type { Chance } from "./chance.ts";

/** All that can go wrong, and what it is in words. Each can be had alone and in any company. */
export const faults = {
  "event-lost": "a forge's event never arrives",
  "event-late": "an event arrives minutes after what it tells, and after later ones",
  "event-doubled": "an event arrives twice",
  "forge-outage": "the forge answers nothing for minutes",
  "forge-limit": "the forge refuses a call: too many in this hour",
  "forge-slow": "the forge takes long to answer",
  "forge-answer-lost": "the forge did what it was asked, and the answer is lost",
  "forge-list-lag": "the forge's lists show what was some seconds ago",
  "job-cancelled": "somebody cancels a job",
  "job-rerun": "somebody runs a job again",
  "job-hangs": "a job runs until somebody ends it",
  "provider-outage": "the provider answers nothing for minutes",
  "provider-slow": "the provider takes long to answer",
  "create-refused": "the provider has no capacity, no quota, or too many calls",
  "create-answer-lost": "the provider made the machine, and the answer is lost",
  "create-late": "the answer is lost, and the machine appears a minute later",
  "create-hangs": "the provider never answers a request for a machine",
  "list-lag": "the provider's list shows what was some seconds ago",
  "list-forgets": "the provider's list leaves a machine out once",
  "list-fails": "the provider's list cannot be had",
  "destroy-answer-lost": "the provider ended the machine, and the answer is lost",
  "destroy-fails": "the provider cannot end a machine now",
  "destroy-hangs": "the provider never answers a request to end a machine",
  "destroy-slow": "a machine takes a minute to end",
  "boot-never": "a machine never comes up",
  "boot-slow": "a machine comes up about when it is given up",
  "machine-dies": "a machine stops in the middle of its life",
  "machine-vanishes": "a machine is taken back and shown no more",
  crash: "the manager dies between any two steps and is started again",
  "crash-twice": "the manager dies again while it starts",
  "store-fails": "the store refuses a statement, as on a full disk",
} as const;

export type Fault = keyof typeof faults;
export const allFaults = Object.keys(faults) as Fault[];
export const faultPairs: readonly (readonly Fault[])[] = allFaults.flatMap((one, index) =>
  allFaults.slice(index + 1).map((other) => [one, other]),
);

/** Decides which faults happen where, and remembers those that did. */
export class Faults {
  /** How often each happened in this run. */
  readonly happened = new Map<Fault, number>();
  /** Each occurrence, by its place: what a failing run is shrunk by. */
  readonly places = new Set<string>();
  /** From here on nothing goes wrong any more. */
  over = false;
  readonly #chance: Chance;
  readonly #chosen: ReadonlySet<Fault>;
  readonly #without: ReadonlySet<string>;

  constructor(chance: Chance, chosen: ReadonlySet<Fault>, without: ReadonlySet<string>) {
    this.#chance = chance;
    this.#chosen = chosen;
    this.#without = without;
  }

  /** Whether `fault` happens at this place, which is asked about once. */
  strikes(fault: Fault, where: string, probability: number): boolean {
    if (this.over || !this.#chosen.has(fault)) return false;
    const place = `${fault}/${where}`;
    if (this.#chance.at(place) >= probability || this.#without.has(place)) return false;
    this.happened.set(fault, (this.happened.get(fault) ?? 0) + 1);
    this.places.add(place);
    return true;
  }
}
