import { z } from "zod";
import { secret } from "../../domain/secret.ts";

const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "the name of a variable");
const word = z.string().min(1).max(4_096);

/** The keys of an `exec` provider in the configuration. */
export const execOptions = z.strictObject({
  command: z
    .array(word)
    .min(1)
    .max(100)
    .describe("The program and its arguments; run as given, not by a shell."),
  environment: z
    .record(variable, z.string().max(32_768))
    .default({})
    .describe("Variables for the program. It sees these, PATH, HOME and LANG, and no others."),
  secrets: z
    .record(variable, secret)
    .default({})
    .describe("Variables whose values are read from a file or from our own environment."),
  requestSeconds: z
    .number()
    .positive()
    .max(3_600)
    .default(120)
    .describe("How long the program may take for one answer."),
});
export type ExecOptions = z.infer<typeof execOptions>;
