import { MayflyError } from "../domain/errors.ts";
import type { Provider } from "../providers/provider.ts";
import { addFacts } from "../store/facts.ts";
import { findRunner } from "../store/questions.ts";
import type { Store } from "../store/store.ts";
import { asProviderError } from "./calls.ts";
import { within, type Clock } from "./clock.ts";

const proofLengthMax = 8 * 1024;
/** Shorter than a guest waits for an answer. */
const judgeMs = 30_000;
/** Runners whose refusal was noted: one line each, however often somebody tries. */
const notedMax = 1_000;

/** Asks a machine's provider whether it is really that machine which redeems a claim. */
export class IdentityDesk {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #providers: ReadonlyMap<string, Provider>;
  readonly #noted = new Set<string>();

  constructor(store: Store, clock: Clock, providers: ReadonlyMap<string, Provider>) {
    this.#store = store;
    this.#clock = clock;
    this.#providers = providers;
  }

  /** Throws `forbidden` when it is another machine, `unavailable` when nobody can tell now. */
  async check(name: string, proof: string): Promise<void> {
    const runner = await findRunner(this.#store.db, name);
    const provider = this.#providers.get(runner?.provider ?? "");
    if (provider?.prove === undefined) return;
    if (proof.length > proofLengthMax) {
      throw new MayflyError("too_large", `more than ${proofLengthMax} characters`, {
        where: "proof",
      });
    }
    const fault = await this.#judge(provider, name, proof);
    if (fault === null) return;
    await this.#note(name, `its claim was shown by another machine, and refused: ${fault}`);
    throw new MayflyError("forbidden", `this claim is another machine's: ${fault}`, {
      where: "proof",
    });
  }

  async #judge(provider: Provider, name: string, proof: string): Promise<string | null> {
    const { signal } = new AbortController();
    try {
      return await within(this.#clock, judgeMs, signal, async (until) =>
        provider.prove!(name, proof, until),
      );
    } catch (error) {
      const { message } = asProviderError(error);
      throw new MayflyError(
        "unavailable",
        `${provider.name} cannot tell which machine: ${message}`,
      );
    }
  }

  async #note(name: string, reason: string): Promise<void> {
    if (this.#noted.has(name) || this.#noted.size >= notedMax) return;
    this.#noted.add(name);
    await this.#store.write((tx) =>
      addFacts(tx, [{ subjectKind: "runner", subject: name, kind: "failed", reason }]),
    );
  }
}
