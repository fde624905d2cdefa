import type { BrokerSettings } from "../domain/broker.ts";
import type { Pool } from "../domain/pool.ts";
import type { Secret } from "../domain/secret.ts";
import type { Listen } from "./text.ts";

/** A forge or provider as configured: its name, its kind, and the kind's own options. */
export interface Part {
  readonly name: string;
  readonly kind: string;
  readonly options: unknown;
}

/** A queue at Amazon, and who we are there (null: what AWS's SDK finds). */
export interface Front {
  readonly queue: string;
  readonly region: string;
  readonly accessKey: { readonly id: Secret; readonly secret: Secret } | null;
}

/** A whole configuration, checked and with every default filled in. */
export interface Config {
  /** Null: there is no file, and everything is a default. */
  readonly file: string | null;
  readonly listen: Listen;
  /** Where others reach this Mayfly; null: where it listens. */
  readonly url: string | null;
  readonly stateFolder: string;
  /** Null: the embedded store in the state folder. */
  readonly postgres: Secret | null;
  /** How long a replica keeps what it works on without being heard of. */
  readonly leaseSeconds: number;
  /** Null: the one in the state folder, made on first start. */
  readonly token: Secret | null;
  /** The queue that webhooks wait in; null: there is none. */
  readonly front: Front | null;
  readonly forges: readonly Part[];
  readonly providers: readonly Part[];
  readonly pools: readonly Pool[];
  /** Null: machines are lent to nobody. */
  readonly broker: BrokerSettings | null;
  /** What a person should know, in words: a secret that others may read, no podman here. */
  readonly warnings: readonly string[];
}
