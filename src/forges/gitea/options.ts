import { z } from "zod";
import { secret } from "../../domain/secret.ts";
import { scopeOption } from "../actions-scope.ts";
import { programsOption, serverUrl } from "../runner-program.ts";

/** What a configuration may say of a Gitea forge. */
export const giteaOptions = z.strictObject({
  url: serverUrl.describe("The server's address, such as `https://git.example.com`."),
  scope: scopeOption.describe(
    "Whose jobs: an organisation, `OWNER/REPOSITORY`, `@me` for those of the token's user, or " +
      "`@server` for all, by an administrator's token. Default: `@server`.",
  ),
  token: secret.describe("An access token of somebody who may manage runners there."),
  secret: secret
    .optional()
    .describe("What the server signs its events with. Without it, jobs are only asked for."),
  runnerUrl: serverUrl.optional().describe("Where machines reach the server, if not at `url`."),
  programs: programsOption,
  oldRunners: z
    .boolean()
    .default(false)
    .describe(
      "Let a runner's program older than 3.0 serve pools that take no forks, which it cannot enforce.",
    ),
});

export type GiteaOptions = z.output<typeof giteaOptions>;
