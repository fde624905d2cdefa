import { access, constants, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { existsSync } from "node:fs";
import type { Config, Part } from "../config/config.ts";
import type { Check } from "../providers/provider.ts";
import { bytesText } from "../web/words.ts";
import { checkBroker } from "./broker-check.ts";
import { exit } from "./exit.ts";
import { checkForge } from "./forge-check.ts";
import { checkFront } from "./front-check.ts";
import { git } from "./git.ts";
import type { CommonFlags } from "./program.ts";
import { kinds, readConfig, tryProvider, type PlaceFlags } from "./setting.ts";
import { checkStore } from "./store-check.ts";
import { folded } from "./table.ts";
import { clean, columnsOf, painter, print } from "./terminal.ts";

/** What was tested of one thing, and whether it can do its work. */
interface Diagnosis {
  readonly about: string;
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

/**
 * `mayfly doctor`: tests what Mayfly needs here and says how to mend what is missing. Exit status 1
 * when nothing can run.
 */
export async function run(flags: CommonFlags & PlaceFlags): Promise<number> {
  const config = await readConfig(flags);
  const own = [nodeCheck(), await gitCheck(), await folderCheck(config), await checkStore(config)];
  const diagnoses: Diagnosis[] = [
    {
      about: "mayfly",
      ok: own.every(({ ok, isOptional }) => ok || isOptional === true),
      checks: own,
    },
  ];
  for (const part of providersToTry(config)) {
    const { checks, problem } = await tryProvider(part, config.stateFolder);
    const failed = checks.some(({ ok }) => !ok) || problem === null;
    const opening = { name: "open", ok: false, detail: problem ?? "", mend: null };
    const about = `provider ${part.name}`;
    diagnoses.push({ about, ok: problem === null, checks: failed ? checks : [...checks, opening] });
  }
  const [mayfly, ...providers] = diagnoses;
  for (const part of config.forges) {
    const checks = await checkForge(part);
    // One forge that is out of reach keeps the jobs of no other waiting.
    const isWell = checks.every(({ ok: isGood, isOptional }) => isGood || isOptional === true);
    if (checks.length > 0) diagnoses.push({ about: `forge ${part.name}`, ok: isWell, checks });
  }
  if (config.front !== null) {
    const checks = [await checkFront(config.front)];
    // Jobs are polled for all the same.
    diagnoses.push({ about: "front", ok: checks.every(({ ok: isGood }) => isGood), checks });
  }
  const lending = await checkBroker(config);
  const lends = lending.every(({ ok: isGood, isOptional }) => isGood || isOptional === true);
  if (lending.length > 0) diagnoses.push({ about: "broker", ok: lends, checks: lending });
  const ok = mayfly?.ok === true && providers.some((provider) => provider.ok);
  if (flags.json) await print(JSON.stringify({ ok, diagnoses }));
  else await show(config, diagnoses, ok);
  return ok ? exit.ok : exit.failed;
}

/** The configured ones; without any, every kind that needs no options. */
function providersToTry(config: Config): readonly Part[] {
  if (config.file !== null) return config.providers;
  return Object.entries(kinds.providers)
    .filter(([, { options }]) => options.safeParse({}).success)
    .map(([kind]) => ({ name: kind, kind, options: {} }));
}

async function show(config: Config, diagnoses: readonly Diagnosis[], ok: boolean): Promise<void> {
  const [paint, columns] = [painter(process.stdout), columnsOf(process.stdout)];
  await print(`configuration  ${config.file ?? "none: every default"}`);
  for (const { about, checks } of diagnoses) {
    await print(paint("bold", about));
    const width = Math.max(...checks.map(({ name }) => name.length));
    for (const { name, ok: isGood, detail, mend, isOptional } of checks) {
      const bad = isOptional === true ? paint("yellow", "!") : paint("red", "✘");
      const sign = isGood ? paint("green", "✔") : bad;
      const lines = folded(clean(detail), width + 6, columns);
      await print(`  ${sign} ${name.padEnd(width)}  ${lines}`);
      // Not folded: what is to be typed has to be copied as one line.
      if (mend !== null && !isGood) await print(`    ${" ".repeat(width)}  → ${clean(mend)}`);
    }
  }
  await print(ok ? "Jobs can run here." : paint("red", "Nothing can run here yet."));
}

function nodeCheck(): Check {
  const major = Number(process.versions.node.split(".")[0]);
  const mend = major >= 24 ? null : "install Node.js 24 or newer from https://nodejs.org/";
  return { name: "Node.js", ok: major >= 24, detail: process.version, mend };
}

async function gitCheck(): Promise<Check> {
  const name = "git";
  try {
    const { stdout } = await git(["--version"]);
    return { name, ok: true, detail: stdout.trim().replace(/^git version /, ""), mend: null };
  } catch {
    const detail = "it is not on the PATH: only archives can be sent";
    return { name, ok: false, detail, mend: "apt-get install git", isOptional: true };
  }
}

const roomMin = 500 * 1024 * 1024;

async function folderCheck({ stateFolder }: Config): Promise<Check> {
  const name = "state folder";
  let folder = stateFolder;
  // One that is not there yet will be made in the nearest that is.
  while (!existsSync(folder)) folder = dirname(folder);
  try {
    await access(folder, constants.W_OK | constants.X_OK);
  } catch {
    const mend = "choose another with --state, or let its owner give it to you";
    return { name, ok: false, detail: `${folder} is not yours to write to`, mend };
  }
  const { bavail, bsize } = await statfs(folder);
  const room = bavail * bsize;
  const detail = `${stateFolder}, ${bytesText(room)} free`;
  const mend = room >= roomMin ? null : "make room there, or choose another disk with --state";
  return { name, ok: room >= roomMin, detail, mend };
}
