import { inspect } from "node:util";
import { z } from "zod";

/** Reads what a reference names; throws an `Error` whose message says what is wrong. */
export type SecretReader = (reference: SecretReference) => string;

export interface SecretReference {
  readonly kind: "file" | "env";
  /** A path as written, or a variable's name. */
  readonly name: string;
}

/**
 * A secret of the configuration: only a reference (`file:PATH`, `env:NAME`) until `load`, then its
 * value, which leaves only through `reveal`. However it is printed, it shows `[secret]`.
 */
export class Secret {
  readonly reference: SecretReference;
  #value: string | undefined;

  constructor(reference: SecretReference, value?: string) {
    this.reference = reference;
    this.#value = value;
  }

  load(read: SecretReader): void {
    this.#value = read(this.reference);
  }

  reveal(): string {
    if (this.#value === undefined) throw new Error("the secret has not been read");
    return this.#value;
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}

/** The schema of a setting that is a secret, also for the options of forges and providers. */
export const secret = z
  .string()
  .meta({ examples: ["file:secret", "env:NAME"] })
  .transform((text, context): Secret => {
    const [, kind, name] = /^(file|env):(.+)$/s.exec(text) ?? [];
    if (kind === "env" && name !== undefined && /^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      return new Secret({ kind, name });
    }
    if (kind === "file" && name !== undefined) return new Secret({ kind, name });
    // The text itself may be the secret: it is not repeated.
    context.addIssue({ code: "custom", message: inlineAdvice });
    return z.NEVER;
  });

const inlineAdvice =
  "a secret is never written here; put it in a file and write file:PATH, or env:NAME for a variable";
