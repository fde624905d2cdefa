import { MayflyError } from "../domain/errors.ts";
import type { ForgeContext } from "./context.ts";

/** Asks what a token may not be allowed to see, and tells that once. */
export class Permitted {
  readonly #context: Pick<ForgeContext, "name" | "log">;
  readonly #consequence: string;
  #wasForbidden = false;

  /** `consequence`: what follows for a person, in words. */
  constructor(context: Pick<ForgeContext, "name" | "log">, consequence: string) {
    this.#context = context;
    this.#consequence = consequence;
  }

  /** A token that may not see it cannot tell; a server that is out of reach is asked again. */
  async orNull<T>(answer: Promise<T | null>): Promise<T | null> {
    try {
      return await answer;
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== "forbidden") throw error;
      const { name, log } = this.#context;
      if (!this.#wasForbidden) {
        log.warn({ forge: name }, `its token lacks read:repository: ${this.#consequence}`);
      }
      this.#wasForbidden = true;
      return null;
    }
  }
}
