import { sizeText } from "../web/words.ts";
import { brokerText } from "./broker-check.ts";
import { exit } from "./exit.ts";
import type { CommonFlags } from "./program.ts";
import { readConfig } from "./setting.ts";
import { table } from "./table.ts";
import { columnsOf, note, painter, print } from "./terminal.ts";

export interface CheckFlags extends CommonFlags {
  /** As other commands name it. */
  readonly config?: string;
}

/** `mayfly config check`: what is wrong in a configuration, or what it amounts to. */
export async function run(named: string | undefined, flags: CheckFlags): Promise<number> {
  const file = named ?? flags.config;
  const config = await readConfig(file === undefined ? {} : { config: file });
  const { warnings, pools, broker } = config;
  if (flags.json) {
    await print(JSON.stringify(config));
    return exit.ok;
  }
  const paint = painter(process.stdout);
  for (const warning of warnings) note(`${painter(process.stderr)("yellow", "note:")} ${warning}`);
  await print(`${paint("green", "✔")} ${config.file ?? "no mayfly.yaml: every default"}`);
  const lines = table(
    pools,
    [
      { title: "POOL", text: ({ name }) => name },
      { title: "FORGE", text: ({ forge }) => forge, optional: true },
      { title: "PROVIDER", text: ({ provider }) => provider },
      { title: "SIZE", text: ({ size }) => sizeText(size) },
      { title: "MIN", text: ({ min }) => String(min), align: "right", optional: true },
      { title: "WARM", text: ({ warm }) => String(warm), align: "right" },
      { title: "MAX", text: ({ max }) => String(max), align: "right" },
      { title: "ACCEPTS", text: ({ accept }) => accept.join(", ") },
      { title: "LABELS", text: ({ labels }) => labels.join(", ") || "-", flexible: true },
    ],
    columnsOf(process.stdout),
    paint,
  );
  for (const line of lines) await print(line);
  if (broker !== null) await print(`The broker ${brokerText(broker)}.`);
  return exit.ok;
}
