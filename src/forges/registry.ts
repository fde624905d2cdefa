import type { z } from "zod";
import type { ForgeContext } from "./context.ts";
import type { Forge } from "./forge.ts";
import { forgejoOptions } from "./forgejo/options.ts";
import { giteaOptions } from "./gitea/options.ts";
import { githubOptions } from "./github/options.ts";
import { nativeOptions } from "./native/options.ts";

/** A kind of forge that a configuration may name. */
export interface ForgeKind {
  readonly summary: string;
  readonly options: z.ZodType;
  /**
   * `options` as the schema gave them. Throws `MayflyError` for what cannot be. Absent: its jobs are
   * submitted to Mayfly itself, and what it needs only `cli/wire.ts` has.
   */
  open?(options: unknown, context: ForgeContext): Promise<Forge>;
}

/** A kind with a server, whose module is loaded when it is first used. */
function kind<O>(
  parts: { readonly summary: string; readonly options: z.ZodType<O> },
  load: () => Promise<(options: O, context: ForgeContext) => Forge>,
): ForgeKind {
  return { ...parts, open: async (options, context) => (await load())(options as O, context) };
}

/** Every kind there is. */
export const forges: Readonly<Record<string, ForgeKind>> = {
  native: {
    summary: "Repositories without a forge: jobs are submitted, pushed or sent as signed events.",
    options: nativeOptions,
  },
  github: kind(
    {
      summary: "GitHub: github.com, or a GitHub Enterprise Server.",
      options: githubOptions,
    },
    async () => (await import("./github/github.ts")).openGithub,
  ),
  gitea: kind(
    {
      summary: "A Gitea server, 1.25 or newer.",
      options: giteaOptions,
    },
    async () => (await import("./gitea/gitea.ts")).openGitea,
  ),
  forgejo: kind(
    {
      summary: "A Forgejo server, 15 or newer.",
      options: forgejoOptions,
    },
    async () => (await import("./forgejo/forgejo.ts")).openForgejo,
  ),
};
