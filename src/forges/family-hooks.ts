import { z } from "zod";
import { repositoryPath, type ActionsScope } from "./actions-scope.ts";
import type { Rest } from "./rest.ts";

export interface Hook {
  readonly type: "gitea" | "forgejo";
  /** Where its events go. */
  readonly url: string;
  readonly secret: string;
  readonly events: readonly string[];
}

const hooks = z
  .array(z.object({ id: z.int(), config: z.object({ url: z.string() }).partial().nullish() }))
  .nullable();

/**
 * Makes the webhook of a scope at a Gitea or Forgejo server, in place of one that sent to the same
 * address. Needs a token that may change the scope's own settings (`POST …/hooks` in their swagger).
 */
export async function setHook(
  rest: Rest,
  scope: ActionsScope,
  { type, url, secret, events }: Hook,
  signal: AbortSignal,
): Promise<void> {
  const path = hooksPath(scope);
  const found = (await rest.get(`${path}?limit=50`, hooks, signal)) ?? [];
  const config = { url, content_type: "json", secret };
  await rest.call({ method: "POST", path, send: { type, active: true, events, config } }, signal);
  for (const old of found.filter((hook) => hook.config?.url === url)) {
    await rest.call({ method: "DELETE", path: `${path}/${old.id}`, expect: [404] }, signal);
  }
}

function hooksPath(scope: ActionsScope): string {
  switch (scope.kind) {
    case "organization":
      return `/api/v1/orgs/${scope.name}/hooks`;
    case "repository":
      return `${repositoryPath(`${scope.owner}/${scope.name}`)}/hooks`;
    case "user":
      return "/api/v1/user/hooks";
    case "server":
      return "/api/v1/admin/hooks";
  }
}
