import { resolve } from "node:path";
import { loadConfig } from "../config/load.ts";
import { MayflyError } from "../domain/errors.ts";
import { trustClasses } from "../domain/trust.ts";
import { nearest } from "../domain/words.ts";
import { randomWord } from "../fleet/names.ts";
import { forges } from "../forges/registry.ts";
import { guestProgram } from "../guest/program.ts";
import { chance } from "./chance.ts";
import { exit } from "./exit.ts";
import { Draft } from "./init/draft.ts";
import { familySetup } from "./init/gitea.ts";
import { githubSetup } from "./init/github.ts";
import { Terminal } from "./init/prompter.ts";
import { roundTrip } from "./init/round-trip.ts";
import type { InitFlags, Setup } from "./init/setup.ts";
import { configFile } from "./places.ts";
import { surroundingsOf } from "./setting.ts";
import { note, painter, print } from "./terminal.ts";

const setups: Readonly<Record<string, Setup>> = {
  github: githubSetup,
  gitea: familySetup("gitea"),
  forgejo: familySetup("forgejo"),
};
const limitMs = 30 * 60_000;

/**
 * `mayfly init FORGE`: asks what a forge's jobs need, tries it at the forge, and only then adds it to
 * the configuration. Nothing stays of what does not work.
 */
export async function run(kind: string, flags: InitFlags): Promise<number> {
  const setup = setups[kind];
  if (setup === undefined) throw unknown(kind);
  const prompter = new Terminal(process.stdin, process.stderr);
  const paint = painter(process.stderr);
  const say = (line: string): void => note(`${paint("green", "✔")} ${line}`);
  const signal = AbortSignal.timeout(limitMs);
  const accept = acceptOf(flags.accept);
  const target = resolve(configFile(flags.config, process.env) ?? "mayfly.yaml");

  const reach = await reachOf(flags, prompter);
  const asked = await setup.ask({ prompter, flags, reach, say, signal });
  const { name } = asked;
  const labels = await labelsOf(flags, prompter, setup.labels);
  const { options, secrets } = asked;
  const draft = new Draft(target, { name, kind, options, secrets, labels, accept, url: reach });
  let written: readonly string[];
  try {
    const config = await loadConfig(draft.file, await surroundingsOf(flags));
    const part = config.forges.find((forge) => forge.name === name);
    const installation = `init${randomWord(chance, 4)}`;
    const log = { info: () => {}, warn: (_: object, message: string) => note(message) };
    const now = (): number => Date.now();
    const context = { name, installation, now, log, guestProgram };
    const forge = await forges[kind]?.open?.(part?.options, context);
    if (forge === undefined) throw unknown(kind);
    const runner = `${installation}-init-${randomWord(chance)}`;
    await roundTrip(forge, runner, labels[0] ?? "mayfly", say, signal);
    await asked.finish({ name, say, signal });
    written = draft.keep();
  } catch (error) {
    draft.drop();
    throw error;
  }
  for (const path of written) say(`wrote ${path}`);
  if (flags.json) await print(JSON.stringify({ forge: name, kind, labels, files: written }));
  note(`Jobs with runs-on: ${labels.length === 1 ? labels[0] : `[${labels.join(", ")}]`} now get`);
  note(`machines of their own. Start it: mayfly up --config ${target}`);
  return exit.ok;
}

function unknown(kind: string): MayflyError {
  const known = Object.keys(setups);
  const meant = nearest(kind, known);
  const hint = meant === null ? `There are ${known.join(", ")}.` : `Did you mean ${meant}?`;
  return new MayflyError("invalid", `there is no forge ${JSON.stringify(kind)}`, { hint });
}

/** Where the forge's events can reach us; null: they cannot, and jobs are asked for. */
async function reachOf(flags: InitFlags, prompter: Terminal): Promise<string | null> {
  const answer = await prompter.ask(
    {
      flag: "--reach",
      text: "The address at which the forge reaches this Mayfly, if it does (else jobs are polled)",
      fallback: "",
      check: (text) => {
        const isAddress = text === "" || /^https?:\/\/[^\s/]+(\/[^\s?#]*)?$/.test(text);
        return isAddress ? null : "that is no http or https address";
      },
    },
    flags.reach,
  );
  return answer === "" ? null : answer.replace(/\/+$/, "");
}

async function labelsOf(
  flags: InitFlags,
  prompter: Terminal,
  fallback: readonly string[],
): Promise<readonly string[]> {
  if (flags.label !== undefined) return flags.label;
  const answer = await prompter.ask(
    { flag: "--label", text: "The labels that jobs ask for", fallback: fallback.join(", ") },
    undefined,
  );
  return answer.split(",").flatMap((label) => (label.trim() === "" ? [] : [label.trim()]));
}

/** Strangers' code is let in on purpose, never by default. */
function acceptOf(given: readonly string[] = ["trusted"]): readonly string[] {
  const wrong = given.find((each) => !trustClasses.some((trust) => trust === each));
  if (wrong === undefined) return given;
  throw new MayflyError("invalid", `there is no trust class ${JSON.stringify(wrong)}`, {
    where: "--accept",
    hint: `There are ${trustClasses.join(" and ")}.`,
  });
}
