import type { Why } from "../web/why.ts";
import { Client } from "./client.ts";
import { exit } from "./exit.ts";
import { findSubject, isNotFound } from "./find.ts";
import type { ClientFlags } from "./program.ts";
import { folded } from "./table.ts";
import { clean, columnsOf, painter, print } from "./terminal.ts";

/** `mayfly why`: why a job waits, is where it is, or ended; why a machine is there. */
export async function run(given: string, flags: ClientFlags): Promise<number> {
  const client = new Client(flags, process.env);
  const why = await ask(client, given);
  if (flags.json) {
    await print(JSON.stringify(why));
    return exit.ok;
  }
  const paint = painter(process.stdout);
  const width = columnsOf(process.stdout);
  const summary = folded(`${why.id}: ${clean(why.summary)}`, 2, width);
  await print(paint("bold", why.id) + summary.slice(why.id.length));
  if (why.advice !== null) {
    await print(`${paint("green", "→")} ${folded(clean(why.advice), 2, width)}`);
  }
  for (const { at, text } of why.because) {
    const time = at === null ? "" : timeText(at);
    await print(`  ${paint("dim", time)}  ${folded(clean(text), time.length + 4, width)}`);
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
