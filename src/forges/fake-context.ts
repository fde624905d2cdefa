import type { Program } from "../domain/program.ts";
import { Secret } from "../domain/secret.ts";
import type { ForgeContext } from "./context.ts";

/* What tests open a forge with. */

export const fakeInstallation = "k7m2q";

export function fakeContext(now: () => number): ForgeContext & { readonly told: string[] } {
  const told: string[] = [];
  const tell = (_: object, message: string): void => void told.push(message);
  return {
    name: "acme",
    installation: fakeInstallation,
    now,
    log: { info: tell, warn: tell },
    guestProgram: ({ lifeSeconds }): Program => ({
      files: [],
      command: ["true"],
      environment: {},
      deadlineSeconds: lifeSeconds,
    }),
    told,
  };
}

export function fakeSecret(value: string): Secret {
  return new Secret({ kind: "env", name: "A_SECRET" }, value);
}
