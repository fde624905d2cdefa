import { fakeContext, fakeSecret } from "../fake-context.ts";
import type { Forge } from "../forge.ts";
import { FakeForgejo } from "./fake/forgejo.ts";
import { openForgejo } from "./forgejo.ts";

export interface PlayedForgejo {
  readonly fake: FakeForgejo;
  readonly forge: Forge;
  readonly secrets: readonly string[];
  /** Another manager's view of the same server: one that was started anew. */
  again(): Forge;
}

/** A forge of ours on a Forgejo that is played, for the organisation acme. */
export async function playForgejo(
  parts: { readonly release?: 15 | 16; readonly now?: () => number } = {},
): Promise<PlayedForgejo> {
  const [token, secret] = ["a-token-of-forgejo", "a-secret-of-the-webhook"];
  const { release = 16, now = Date.now } = parts;
  const fake = new FakeForgejo({ token, secret, scope: "/orgs/acme", now, release });
  await fake.server.open();
  const open = (): Forge =>
    openForgejo(
      {
        url: fake.url,
        scope: "acme",
        token: fakeSecret(token),
        secret: fakeSecret(secret),
        programs: {},
      },
      fakeContext(now),
    );
  return { fake, forge: open(), secrets: [token, secret], again: open };
}
