import { readFileSync } from "node:fs";
import { z } from "zod";

const web = z
  .url({ protocol: /^https?$/, error: "must be an http or https address" })
  .refine((text) => !/[\s"'\\]/.test(text), {
    message: "must hold no spaces, quotes or backslashes",
  });

/** A server's address, without the slash at its end. */
export const serverUrl = web
  .refine((text) => new URL(text).username === "" && new URL(text).password === "", {
    message: "must hold no name and no password; the token has a setting of its own",
  })
  .refine((text) => new URL(text).search === "" && new URL(text).hash === "", {
    message: "must hold no ? and no #",
  })
  .transform((text) => text.replace(/\/+$/, ""));

const program = z.strictObject({
  url: web.describe("The program itself, or a copy of it that machines reach."),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/, { message: "must be 64 hexadecimal digits" })
    .describe("Its checksum, without which nothing of it is run."),
});

/** Where machines that do not hold the forge's runner program get it. */
export const programsOption = z
  .partialRecord(z.enum(["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"]), program)
  .default({})
  .describe(
    "Where a machine gets the runner's program when its image does not hold it: for `linux-x64`, " +
      "`linux-arm64`, `darwin-x64` or `darwin-arm64`, the `url` of the program itself and its `sha256`.",
  );

export type RunnerPrograms = z.output<typeof programsOption>;

let fetching: string | undefined;

/** A forge's start script, after what all of them share: `fetch-program.sh`. */
export function startScript(own: string): string {
  fetching ??= readFileSync(new URL("./fetch-program.sh", import.meta.url), "utf8");
  return `${fetching}\n${own}`;
}

/** As the start scripts read it: a line each of machine, digest and address. */
export function programLines(programs: RunnerPrograms): string {
  return Object.entries(programs)
    .map(([machine, { sha256, url }]) => `${machine} ${sha256} ${url}\n`)
    .join("");
}
