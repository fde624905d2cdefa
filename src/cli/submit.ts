import { parseDuration } from "../config/text.ts";
import { MayflyError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import type { JobView } from "../web/views.ts";
import { Client } from "./client.ts";
import { exit } from "./exit.ts";
import type { ClientFlags } from "./program.ts";
import { chooseSource, type SourceFlags } from "./source.ts";
import { clean, note, painter, print } from "./terminal.ts";
import { waitForJob } from "./wait.ts";

export interface SubmitFlags extends ClientFlags, SourceFlags {
  readonly pool?: string;
  readonly label?: readonly string[];
  readonly target?: string;
  readonly env?: readonly string[];
  readonly artifact?: readonly string[];
  readonly timeout?: string;
  readonly name?: string;
  readonly wait?: true;
}

/** `mayfly submit`: sends a job, and with `--wait` stays until it is over. */
export async function run(command: readonly string[], flags: SubmitFlags): Promise<number> {
  if (command.length > 0 && flags.target !== undefined) {
    throw new MayflyError("invalid", "give a command or a target, not both", { where: "--target" });
  }
  const environment = readVariables(flags.env ?? [], process.env);
  const timeoutSeconds = readTimeout(flags.timeout);
  const client = new Client(flags, process.env);
  const { repository, source } = await chooseSource(client, flags, (line) =>
    note(`mayfly: ${line}`),
  );
  const job = await client.post<JobView>("/v1/jobs", {
    name: flags.name ?? null,
    repository,
    source,
    command,
    target: command.length > 0 ? null : (flags.target ?? "test"),
    labels: flags.label ?? [],
    pool: flags.pool ?? null,
    environment,
    timeoutSeconds,
    artifacts: flags.artifact ?? [],
  });
  if (flags.wait) return waitForJob(client, job, flags.json === true);

  if (flags.json) {
    await print(JSON.stringify(job));
  } else {
    await print(job.id);
    const paint = painter(process.stderr);
    const isRefused = job.outcome === "refused";
    const page = new URL(`jobs/${encodeURIComponent(job.id)}`, client.server).href;
    const lines = isRefused
      ? [`no pool may take it: ${clean(job.reason)}`]
      : [clean(job.reason), `follow it with: mayfly logs -f ${job.id}`];
    for (const line of [...lines, page]) note(paint("dim", `mayfly: ${line}`));
  }
  return job.outcome === "refused" ? exit.forbidden : exit.ok;
}

/** `NAME=value`, or `NAME` alone for its value here. */
function readVariables(given: readonly string[], here: NodeJS.ProcessEnv): Record<string, string> {
  const pairs = given.map((text): [string, string] => {
    const at = text.indexOf("=");
    if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
    const value = here[text];
    if (at < 0 && value !== undefined) return [text, value];
    throw new MayflyError("invalid", `${quote(text)} names no variable with a value`, {
      where: "--env",
      hint: "Write NAME=value, or NAME for one that is set here.",
    });
  });
  return Object.fromEntries(pairs);
}

function readTimeout(text: string | undefined): number | null {
  if (text === undefined) return null;
  const seconds = parseDuration(text);
  if (seconds !== null) return seconds;
  throw new MayflyError("invalid", `${quote(text)} is no duration up to 30d`, {
    where: "--timeout",
    hint: 'Write it like "90s", "10m" or "2h".',
  });
}
