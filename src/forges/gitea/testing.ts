import { fakeContext, fakeSecret } from "../fake-context.ts";
import type { Forge } from "../forge.ts";
import { FakeGitea } from "./fake/gitea.ts";
import { openGitea } from "./gitea.ts";

export interface PlayedGitea {
  readonly fake: FakeGitea;
  readonly forge: Forge;
  readonly secrets: readonly string[];
  /** What was logged. */
  readonly told: readonly string[];
}

/** A forge of ours on a Gitea that is played, for the organisation acme. */
export async function playGitea(
  parts: { readonly version?: string; readonly now?: () => number; readonly token?: string } = {},
): Promise<PlayedGitea> {
  const [token, secret] = ["a-token-of-gitea", "a-secret-of-the-webhook"];
  const { version = "1.27.3", now = Date.now } = parts;
  const fake = new FakeGitea({ version, token, secret, scope: "/orgs/acme", now });
  await fake.server.open();
  const context = fakeContext(now);
  const forge = openGitea(
    {
      url: fake.url,
      scope: "acme",
      token: fakeSecret(parts.token ?? token),
      secret: fakeSecret(secret),
      programs: {},
      oldRunners: false,
    },
    context,
  );
  return { fake, forge, secrets: [token, secret], told: context.told };
}
