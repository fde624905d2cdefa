import type { Price } from "../domain/money.ts";
import type { Program } from "../domain/program.ts";
import type { Architecture, Size } from "../domain/size.ts";
import type { TrustClass } from "../domain/trust.ts";

/** What the fleet asks a provider for. */
export interface MachineSpec {
  /** Unique for ever; begins with the installation's prefix and `-`. `[a-z0-9-]`, at most 63 long. */
  readonly name: string;
  readonly size: Size;
  readonly image: string | null;
  readonly network: boolean;
  readonly trust: readonly TrustClass[];
  /** No machine that the provider may take back, where it has both kinds. */
  readonly isOnDemand?: true;
}

export interface Machine {
  readonly name: string;
  /** `ended`: it is still there (and may still cost), but its program is over. */
  readonly state: "booting" | "running" | "ended";
  /** The provider's own identity for it: a container's id, an instance's id. */
  readonly handle: string;
  readonly createdAt: number;
  /** How its program ended, where the provider can tell. */
  readonly exitCode: number | null;
  /** How it ended, in words, where there is more to say: it panicked, it was out of time. */
  readonly end?: string;
  /** Its provider took it back, as cheap capacity may be: its job is worth another try. */
  readonly isInterrupted?: true;
}

/** What a provider's machines can be; offered as labels and used to refuse early. */
export interface Capabilities {
  readonly architectures: readonly Architecture[];
  /** The largest single machine. */
  readonly maximum: Size;
  /** How the guest of a local machine reaches this manager. `url`: over the network. */
  readonly channel: "socket" | "url";
  /** The trust classes its isolation is good for. */
  readonly accepts: readonly TrustClass[];
  /** Further facts as labels: `podman`, `kvm`, `perf`. */
  readonly labels: readonly string[];
}

/** One thing a provider needs, and how to mend it when it is missing. For `mayfly doctor`. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly mend: string | null;
  /** Without it the provider still works, for less. */
  readonly isOptional?: true;
}

/**
 * Makes and ends machines. Every failure is a `ProviderError`. Every call ends when `signal` aborts
 * (an `unreachable` error: it may have taken effect).
 */
export interface Provider {
  readonly name: string;
  /** Makes the machine and starts its program. Twice under one name makes one machine. */
  create(spec: MachineSpec, program: Program, signal: AbortSignal): Promise<Machine>;
  /** All machines whose name begins with the installation's prefix, whatever their state. */
  list(signal: AbortSignal): Promise<readonly Machine[]>;
  /** `gone`: it is not there any more, nor anything of it. `ending`: ask again. */
  destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending">;
  /**
   * Asked before the claim of this machine's guest is redeemed: whether `proof`, which the machine's
   * own start got hold of and left to its program in MAYFLY_PROOF, shows that it is this machine. Null: it does. Else why not, in words. A
   * `ProviderError`: that cannot be told now, and the guest asks again. Absent: whoever holds a
   * claim is believed.
   */
  readonly prove?: (name: string, proof: string, signal: AbortSignal) => Promise<string | null>;
  price(size: Size, isOnDemand?: boolean): Price;
  lends(): Capabilities;
  check(signal: AbortSignal): Promise<readonly Check[]>;
  /**
   * The slow work that the first machine needs, such as making an image, with a line of `progress`
   * a step. Returns at once when nothing is left to do. Until then `create` may refuse.
   */
  prepare(progress: (line: string) => void, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** What every provider is given to live on. */
export interface ProviderContext {
  readonly name: string;
  /** The installation's prefix, without the dash; it never changes. `[a-z0-9]`. */
  readonly installation: string;
  /** A folder of the provider's own, which exists. */
  readonly folder: string;
  /**
   * The folder that holds nothing but the guests' socket `guest.sock`, for machines with the
   * `socket` channel. Root of a machine need not be root here, so its mode is 0755 and the
   * socket's 0666; what keeps other users of the host out is a parent of mode 0700.
   */
  readonly guestFolder: string;
  /** The whole folder of state, which holds the two above; no machine may be lent any of it. */
  readonly stateFolder: string;
  readonly now: () => number;
  readonly log: ProviderLog;
  /**
   * Whoever makes a machine stays with it until its end: `create` may take as long as its program
   * runs, and return it `ended` with nothing of it left but what `destroy` removes at once. Called
   * once the making goes on by itself. Aborting `create` then leaves the machine as it is.
   */
  readonly stays?: () => void;
}

/** One line an event worth telling the operator. pino fits it. */
export interface ProviderLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}
