import type { Pool } from "../domain/pool.ts";
import type { Program } from "../domain/program.ts";
import type { Runner } from "../domain/runner.ts";
import type { Forge } from "../forges/forge.ts";
import type { Provider } from "../providers/provider.ts";

/** Turns a claim into the program its machine runs. */
export class Minter {
  readonly #claimToken: (runner: string) => string;
  readonly #publicUrl: () => string;

  /** `publicUrl`: where machines elsewhere reach this manager. */
  constructor(claimToken: (runner: string) => string, publicUrl: () => string) {
    this.#claimToken = claimToken;
    this.#publicUrl = publicUrl;
  }

  mint(forge: Forge, runner: Runner, pool: Pool, provider: Provider): Promise<Program> {
    return forge.mint(runner, {
      managerUrl: provider.lends().channel === "socket" ? "unix:{guest}" : this.#publicUrl(),
      claimToken: this.#claimToken(runner.name),
      jobDeadlineSeconds: pool.jobDeadlineSeconds,
      idleSeconds: pool.idleSeconds,
    });
  }
}
