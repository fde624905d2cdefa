import { z } from "zod";

/**
 * Which repositories' jobs a forge of the Gitea family serves. `user`: those of the token's user.
 * `server`: all that there are, for an administrator's token.
 */
export type ActionsScope =
  | { readonly kind: "organization"; readonly name: string }
  | { readonly kind: "repository"; readonly owner: string; readonly name: string }
  | { readonly kind: "user" }
  | { readonly kind: "server" };

// Names are letters, digits and these: nothing that means something in a path.
const name = "[A-Za-z0-9_.-]{1,100}";
const form = new RegExp(`^(?:@me|@server|${name}(?:/${name})?)$`);

/** The setting `scope`, as both forges of this family write it. */
export const scopeOption = z
  .string()
  .regex(form, { message: "must be an organisation, OWNER/REPOSITORY, @me or @server" })
  .refine((text) => !text.split("/").some((part) => part === "." || part === ".."), {
    message: "must be an organisation, OWNER/REPOSITORY, @me or @server",
  })
  .meta({ examples: ["acme", "acme/rocket", "@me", "@server"] })
  .default("@server");

export function parseScope(text: string): ActionsScope {
  if (text === "@me") return { kind: "user" };
  if (text === "@server") return { kind: "server" };
  const [owner = "", repository] = text.split("/");
  if (repository === undefined) return { kind: "organization", name: owner };
  return { kind: "repository", owner, name: repository };
}

/** Where the API keeps a scope's runners and jobs. */
export function actionsPath(scope: ActionsScope): string {
  switch (scope.kind) {
    case "organization":
      return `/api/v1/orgs/${scope.name}/actions`;
    case "repository":
      return `/api/v1/repos/${scope.owner}/${scope.name}/actions`;
    case "user":
      return "/api/v1/user/actions";
    case "server":
      return "/api/v1/admin/actions";
  }
}

/** `owner/name` as a path of the API; null for what is no such pair. */
export function repositoryPath(fullName: string): string | null {
  if (!new RegExp(`^${name}/${name}$`).test(fullName)) return null;
  if (fullName.split("/").some((part) => part === "." || part === "..")) return null;
  return `/api/v1/repos/${fullName}`;
}
