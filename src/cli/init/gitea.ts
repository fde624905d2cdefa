import { MayflyError } from "../../domain/errors.ts";
import { parseScope, scopeOption } from "../../forges/actions-scope.ts";
import { setHook } from "../../forges/family-hooks.ts";
import { Rest } from "../../forges/rest.ts";
import { serverUrl } from "../../forges/runner-program.ts";
import { newSecret } from "../chance.ts";
import { askName, secretFrom, type Answers, type Asked, type Setup } from "./setup.ts";

/** What to ask of a server of the Gitea family. Both tell their tokens' scopes in the same words. */
const kinds = {
  gitea: {
    title: "Gitea",
    // `workflow_job` from 1.24 on; poll still is the truth.
    events: ["workflow_job"],
    scopes: "write:organization or write:repository (for a whole server write:admin)",
  },
  forgejo: {
    title: "Forgejo",
    // There is none for a job that waits: these are hints to ask now.
    events: ["push", "pull_request", "action_run_success", "action_run_failure"],
    scopes: "write:organization or write:repository (for a whole server write:admin)",
  },
} as const;

/** Asks for an address, a scope and a token; the webhook is made once all of it is known to work. */
export function familySetup(kind: "gitea" | "forgejo"): Setup {
  const { title, events, scopes } = kinds[kind];
  return {
    labels: ["linux"],
    ask: async (asking): Promise<Asked> => {
      const { prompter, flags, reach } = asking;
      const url = await prompter.ask(
        {
          flag: "--url",
          text: `The ${title} server's address`,
          fallback: null,
          check: (text) => (serverUrl.safeParse(text).success ? null : "that is no address"),
        },
        flags.url,
      );
      const scope = await prompter.ask(
        {
          flag: "--scope",
          text: "Whose jobs: an organisation, OWNER/REPOSITORY, @me, or @server for all",
          fallback: "@server",
          check: (text) =>
            scopeOption.safeParse(text).success
              ? null
              : "that is no organisation, OWNER/REPOSITORY, @me or @server",
        },
        flags.scope,
      );
      const token = await secretFrom(prompter, flags.token, {
        flag: "--token",
        text: `An access token, made under ${url}/user/settings/applications\n  with ${scopes}`,
      });
      const secret = reach === null ? null : newSecret();
      return {
        name: await askName(asking, aboutOf(scope, new URL(url).hostname)),
        options: { url: serverUrl.parse(url), scope },
        secrets: { token, ...(secret === null ? {} : { secret }) },
        finish: async ({ name, say, signal }: Answers) => {
          if (reach === null || secret === null) return;
          const rest = new Rest({ name, url: serverUrl.parse(url), token });
          const hook = { type: kind, url: `${reach}/v1/forges/${name}/events`, secret, events };
          try {
            await setHook(rest, parseScope(scope), hook, signal);
          } catch (error) {
            if (!(error instanceof MayflyError) || error.code === "unavailable") throw error;
            say(`no webhook: ${error.message}; until there is one, jobs are asked for`);
            return;
          }
          say(`made a webhook to ${hook.url}`);
        },
      };
    },
  };
}

/** By what people call it: the organisation's or repository's name, else the server's. */
function aboutOf(scope: string, host: string): string {
  return scope.startsWith("@") ? host : (scope.split("/").at(-1) ?? host);
}
