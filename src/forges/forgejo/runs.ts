import type { TrustClass } from "../../domain/trust.ts";
import { AskedOnce } from "../asked-once.ts";
import { BoundedMap } from "../bounded-map.ts";
import type { ForgeContext } from "../context.ts";
import { Permitted } from "../permitted.ts";
import type { ForgejoClient } from "./client.ts";

/** What of a run never changes. */
export interface RunFacts {
  readonly trust: TrustClass;
  readonly url: string | null;
  readonly createdAt: number;
}

const runsMax = 10_000;
const repositoriesMax = 10_000;
/** A repository may be renamed. */
const nameMs = 10 * 60_000;

/** Looks up what jobs do not say: their repository's name, whose code their run is of. */
export class Runs {
  readonly #client: ForgejoClient;
  readonly #context: Pick<ForgeContext, "now">;
  readonly #permitted: Permitted;
  readonly #runs = new AskedOnce<number, RunFacts>(runsMax);
  readonly #names = new BoundedMap<number, { readonly name: string; readonly readAt: number }>(
    repositoriesMax,
  );

  constructor(client: ForgejoClient, context: Pick<ForgeContext, "name" | "log" | "now">) {
    this.#client = client;
    this.#context = context;
    this.#permitted = new Permitted(context, "its jobs cannot be told");
  }

  /** Null: the token may not see it, or it has just been deleted. */
  async repository(id: number, signal: AbortSignal): Promise<string | null> {
    const known = this.#names.get(id);
    const now = this.#context.now();
    if (known !== undefined && now - known.readAt < nameMs) return known.name;
    const name = await this.#permitted.orNull(this.#client.repository(id, signal));
    if (name !== null) this.#names.set(id, { name, readAt: now });
    return name;
  }

  /** What cannot be told counts as a fork's. */
  facts(repository: string, run: number, signal: AbortSignal): Promise<RunFacts> {
    return this.#runs.get(run, () => this.#ask(repository, run, signal));
  }

  async #ask(repository: string, run: number, signal: AbortSignal): Promise<RunFacts> {
    const told = await this.#permitted.orNull(this.#client.run(repository, run, signal));
    if (told === null) return { trust: "fork", url: null, createdAt: 0 };
    // It runs the base's workflow, which may check out the fork's code.
    const isForks = told.is_fork_pull_request || told.trigger_event === "pull_request_target";
    return {
      trust: isForks ? "fork" : "trusted",
      url: /^https?:\/\//.test(told.html_url) ? told.html_url : null,
      createdAt: Math.max(0, Date.parse(told.created) || 0),
    };
  }
}
