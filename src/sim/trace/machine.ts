import type { Price } from "../../domain/money.ts";
import { node, type Node } from "./list.ts";
import type { MachineView } from "./policy.ts";
import type { PoolClass } from "./pool-state.ts";

/** The lists that machines are in. `partly`: it runs a job and has a slot free. */
export type Phase = "booting" | "idle" | "partly" | "full" | "ending" | "gone";

export class SimMachine implements MachineView {
  readonly id: number;
  /** Null: a machine of the pool itself. */
  readonly of: PoolClass | null;
  readonly price: Price;
  readonly startedAt: number;
  phase: Phase = "booting";
  /** When it came into its phase. */
  since: number;
  upAt: number | null = null;
  isDraining = false;
  running = 0;
  done = 0;
  readonly inPool: Node<SimMachine> = node<SimMachine>(this);
  readonly inClass: Node<SimMachine> = node<SimMachine>(this);

  constructor(id: number, of: PoolClass | null, price: Price, startedAt: number) {
    this.id = id;
    this.of = of;
    this.price = price;
    this.startedAt = startedAt;
    this.since = startedAt;
  }

  get labelClass(): string | null {
    return this.of?.key ?? null;
  }

  get state(): "booting" | "idle" | "busy" {
    return this.phase === "booting" || this.phase === "idle" ? this.phase : "busy";
  }

  get idleSince(): number | null {
    return this.phase === "idle" ? this.since : null;
  }
}
