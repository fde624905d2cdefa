import type { z } from "zod";
import type { ProviderSchema } from "../web/schemas.ts";
import type { PoolView } from "../web/views.ts";
import { relative, sizeText } from "../web/words.ts";
import { Client } from "./client.ts";
import { exit } from "./exit.ts";
import type { ClientFlags } from "./program.ts";
import { table } from "./table.ts";
import { clean, columnsOf, painter, print } from "./terminal.ts";

type ProviderView = z.infer<typeof ProviderSchema>;

/** `mayfly status`: what a running Mayfly holds, pool by pool, and whether its providers work. */
export async function run(flags: ClientFlags): Promise<number> {
  const client = new Client(flags, process.env);
  const [{ pools }, { providers }] = await Promise.all([
    client.get<{ pools: PoolView[] }>("/v1/pools"),
    client.get<{ providers: ProviderView[] }>("/v1/providers"),
  ]);
  if (flags.json) {
    await print(JSON.stringify({ pools, providers }));
    return exit.ok;
  }
  const [width, paint] = [columnsOf(process.stdout), painter(process.stdout)];
  await print(`Mayfly at ${client.server.origin}`);
  const lines = table(
    pools,
    [
      { title: "POOL", text: ({ name }) => name },
      { title: "WAITING", text: ({ counts }) => String(counts.waiting), align: "right" },
      { title: "BOOTING", text: ({ counts }) => String(counts.booting), align: "right" },
      { title: "IDLE", text: ({ counts }) => String(counts.idle), align: "right" },
      { title: "BUSY", text: ({ counts }) => String(counts.busy), align: "right" },
      { title: "ENDING", text: ({ counts }) => String(counts.ending), align: "right" },
      { title: "MAX", text: ({ max }) => String(max), align: "right" },
      { title: "PROVIDER", text: ({ provider }) => provider, optional: true },
      { title: "SIZE", text: ({ size }) => sizeText(size), flexible: true },
    ],
    width,
    paint,
  );
  for (const line of lines) await print(line);
  for (const line of providers.flatMap((provider) => troubles(provider, Date.now()))) {
    await print(`${paint("red", "✘")} ${clean(line)}`);
  }
  return exit.ok;
}

function troubles({ name, backOff, checks }: ProviderView, now: number): string[] {
  const failed = checks.filter(({ ok }) => !ok);
  return [
    ...(backOff === null || backOff.until <= now
      ? []
      : [`${name}: ${backOff.reason}; asked again ${relative(backOff.until, now)}`]),
    ...failed.map((check) => `${name}: ${check.name}: ${check.detail}; ${check.mend ?? ""}`),
  ];
}
