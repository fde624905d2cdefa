import { z } from "zod";
import { MayflyError } from "../../domain/errors.ts";
import { secret } from "../../domain/secret.ts";
import { programsOption } from "../runner-program.ts";
import { parseAddress } from "./address.ts";

/** The ways to learn of jobs. */
const ways = ["webhook", "poll", "scaleset"] as const;

const word = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[^\p{Cc}]+$/u, "must be plain text");

/** What a configuration may say of a GitHub forge. */
export const githubOptions = z
  .strictObject({
    url: z
      .string()
      .superRefine((text, context) => {
        try {
          parseAddress(text);
        } catch (error) {
          if (!(error instanceof MayflyError)) throw error;
          context.addIssue({ code: "custom", message: `${error.message}; ${error.hint}` });
        }
      })
      .meta({ examples: ["https://github.com/acme", "https://github.com/acme/widget"] })
      .describe("An organisation, a repository or an enterprise, at github.com or a server."),
    app: z
      .union([z.int().min(1), z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, "must be an App's id")])
      .meta({ examples: [123456] })
      .optional()
      .describe("A GitHub App's id, or its client id."),
    installation: z
      .int()
      .min(1)
      .optional()
      .describe("The App's installation. Default: the one that holds `url`."),
    key: secret.optional().describe("The App's private key, as GitHub gave it (PEM)."),
    token: secret.optional().describe("Instead of an App: a fine-grained or classic token."),
    secret: secret
      .optional()
      .describe("What webhooks are signed with. Without it, none are taken."),
    by: z
      .array(z.enum(ways))
      .min(1)
      .optional()
      .describe(
        "How to learn of jobs: webhook, poll, scaleset. Default: webhook (given a secret) and poll.",
      ),
    group: word.optional().describe("The runner group, by name. Default: the default one."),
    repositories: z
      .array(word)
      .max(1000)
      .default([])
      .describe(
        "Only these, as owner/name, with `*` for anything. Default: all that are in reach.",
      ),
    addresses: z
      .union([z.literal("github"), z.array(word).min(1).max(100)])
      .meta({ examples: ["github"] })
      .optional()
      .describe("Where webhooks may come from: `github` (asked of it), or a list of networks."),
    scaleset: z
      .strictObject({
        name: word.describe("Its name, which jobs ask for as their label."),
        labels: z.array(word).max(20).default([]).describe("More labels that jobs ask for it by."),
        capacity: z
          .int()
          .min(0)
          .max(10_000)
          .default(100)
          .describe("How many jobs it may be given at once."),
      })
      .optional()
      .describe("With `scaleset` in `by`: the scale set whose queue is listened to."),
    programs: programsOption,
  })
  .superRefine(({ app, key, token, by, scaleset, secret }, context) => {
    const told = (path: string, message: string): void =>
      context.addIssue({ code: "custom", path: [path], message });
    if (app === undefined && token === undefined) {
      told("url", "needs a credential; add `app` and `key` of a GitHub App, or a `token`");
    }
    if (app !== undefined && token !== undefined) {
      told("token", "stands beside an App; keep one of them");
    }
    if (app !== undefined && key === undefined) told("app", "needs its private key; add `key`");
    if (key !== undefined && app === undefined) told("key", "is of no App; add `app`");
    if (by?.includes("scaleset") && scaleset === undefined) {
      told("by", "has scaleset, but there is none; add `scaleset: { name: … }`");
    }
    if (by?.includes("webhook") && secret === undefined) {
      told("by", "has webhook, but nothing that signs them; add `secret`");
    }
  });

export type GithubOptions = z.output<typeof githubOptions>;
