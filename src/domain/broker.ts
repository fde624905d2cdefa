/** The name under which the broker is a forge of its own: its pools and jobs are of it. */
export const brokerForge = "broker";

/** What the broker's machines offer beside an order's own label. */
export function architectureLabel(architecture: string): string {
  return `arch_${architecture}`;
}

/** A broker as configured: who may borrow which machines, and how many. */
export interface BrokerSettings {
  /** The forge at which runs are looked up and runners registered. */
  readonly forge: string;
  /** `owner/name`, exactly. */
  readonly repositories: readonly string[];
  /** How a label reads: see `broker-label.ts`. */
  readonly label: string;
  /** File names of workflows whose runs may borrow; none: all. */
  readonly workflows: readonly string[];
  /** The pool of each architecture that may be asked for. */
  readonly pools: Readonly<Record<string, string>>;
  /** Machines of one architecture for one attempt of a run, ever. */
  readonly perRun: number;
  /** Machines lent to one repository at once. */
  readonly perRepository: number;
  /** Machines lent in an hour to one address, and to all. */
  readonly perAddress: number;
  readonly perHour: number;
  /** What may be spent on a day (UTC), in micro-dollars. */
  readonly microUsdPerDay: number;
  /** By when every runner of an order is registered, or it is given up. */
  readonly answerSeconds: number;
  /** How long a lent machine waits for its job. */
  readonly waitSeconds: number;
}
