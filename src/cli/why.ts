import type { Why } from "../web/why.ts";
import { Client } from "./client.ts";
import { exit } from "./exit.ts";
import { findSubject, isNotFound } from "./find.ts";
import type { ClientFlags } from "./program.ts";
import { clean, painter, print } from "./terminal.ts";

/** `mayfly why`: why a job waits, is where it is, or ended; why a machine is there. */
export async function run(given: string, flags: ClientFlags): Promise<number> {
  const client = new Client(flags, process.env);
  const why = await ask(client, given);
  if (flags.json) {
    await print(JSON.stringify(why));
    return exit.ok;
  }
  const paint = painter(process.stdout);
  await print(`${paint("bold", why.id)}: ${clean(why.summary)}`);
  if (why.advice !== null) await print(`${paint("green", "→")} ${clean(why.advice)}`);
  for (const { at, text } of why.because) {
    await print(`  ${paint("dim", at === null ? "" : timeText(at))}  ${clean(text)}`);
  }
  return exit.ok;
}

async function ask(client: Client, given: string): Promise<Why> {
  const path = (id: string) => `/v1/why/${encodeURIComponent(id)}`;
  try {
    return await client.get<Why>(path(given));
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  return client.get<Why>(path(await findSubject(client, given)));
}

/** Local time: whoever asks sits here. */
function timeText(at: number): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const date = new Date(at);
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${day} ${time}`;
}
