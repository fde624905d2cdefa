import { resolve } from "node:path";
import { MayflyError, ProviderError } from "../domain/errors.ts";
import { counted, listed } from "../domain/words.ts";
import { ArtifactFolder } from "../executor/files.ts";
import type { Verdict } from "../executor/steps.ts";
import { bytesText } from "../web/words.ts";
import { exit } from "./exit.ts";
import { localTree, type LocalTree } from "./local-tree.ts";
import { defaultStateFolder, makeFolder } from "./places.ts";
import { endKept, enterKept } from "./run-kept.ts";
import { runOne, type RunSummary, type Whole } from "./run-one.ts";
import { chooseScripts } from "./run-scripts.ts";
import { readSettings, type RunFlags } from "./run-settings.ts";
import { needsTerminal } from "./run-shell.ts";
import { Signals } from "./run-signals.ts";
import { RunView } from "./run-view.ts";
import { print } from "./terminal.ts";

/** `mayfly run`: a fresh machine here, a repository's tests in it, and nothing left behind. */
export async function run(command: readonly string[], flags: RunFlags): Promise<number> {
  const stateFolder =
    flags.state === undefined ? defaultStateFolder(process.env) : resolve(flags.state);
  makeFolder(stateFolder);
  if (flags.end !== undefined) return endKept(stateFolder, flags.end);
  if (flags.enter !== undefined) return enterKept(stateFolder, flags.enter);
  if (flags.shell) needsTerminal("--shell");
  const signals = new Signals();
  const view = new RunView(flags.json === true, () => signals.stop());
  signals.onFirst = () => view.say("ending it; once more to end it at once");
  try {
    const tree = await repository(flags);
    const settings = await readSettings(flags, tree.top, stateFolder, process.env);
    const whole: Whole = { flags, command, stateFolder, signals, view, tree, settings };
    return view.goneStatus ?? (await runAll(whole));
  } catch (error) {
    view.clear();
    if (signals.stopped.aborted) return view.goneStatus ?? exit.interrupted;
    throw asMayflyError(error);
  } finally {
    signals.close();
  }
}

/** Each of the scripts in a machine of its own, until one is kept from running. */
async function runAll(whole: Whole): Promise<number> {
  const { view, tree, settings } = whole;
  const choices = await chooseScripts(whole.command, whole.flags, tree, settings);
  const told: Promise<void>[] = [];
  const meanwhile = (): void => {
    if (told.length === 0) told.push(tellLeftOut(tree, view));
  };
  const artifacts = new ArtifactFolder(
    resolve(settings.artifactFolder ?? "mayfly-artifacts"),
    settings.artifactFolder === null,
  );
  await artifacts.check();
  const runs: RunSummary[] = [];
  for (const choice of choices) {
    if (choice.title !== null) view.say(`job ${choice.title}`);
    const summary = await runOne(whole, choice, artifacts, meanwhile);
    runs.push(summary);
    if (summary.verdict.how !== "exited" || summary.verdict.endsAll) break;
  }
  await Promise.all(told);
  if (artifacts.kept.length > 0) {
    const files = counted(artifacts.kept.length, "artifact");
    view.say(`${files} (${bytesText(artifacts.bytes)}) in ${artifacts.path}`);
  }
  const status = runs.map(({ verdict }) => statusOf(verdict)).find((each) => each !== exit.ok);
  if (whole.flags.json) {
    const told = { repository: tree.name, commit: tree.commit, exitCode: status ?? exit.ok };
    await print(JSON.stringify({ ...told, runs, artifacts: artifacts.kept }));
  }
  return view.goneStatus ?? status ?? exit.ok;
}

/** While the machine is made: looking through a large work tree takes its time. */
async function tellLeftOut(tree: LocalTree, view: RunView): Promise<void> {
  const leftOut = await tree.leftOut().catch(() => []);
  const short = tree.commit.slice(0, 10);
  if (leftOut.length > 0) {
    view.say(`${tree.name} at ${short}, as committed; left out: ${listed(leftOut)}`);
  }
}

function statusOf({ how, exitCode }: Verdict): number {
  if (how === "exited") return exitCode ?? exit.failed;
  if (how === "timed_out") return exit.timedOut;
  if (how === "cancelled") return exit.interrupted;
  return how === "lost" ? exit.temporary : exit.data;
}

async function repository({ rev }: RunFlags): Promise<LocalTree> {
  try {
    return await localTree(".", rev);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.where !== "--repo") throw error;
    const hint =
      error.code === "invalid" ? "Change into one, or make one: git init" : (error.hint ?? "");
    throw new MayflyError(error.code, error.message, { hint });
  }
}

function asMayflyError(error: unknown): unknown {
  if (!(error instanceof ProviderError)) return error;
  const { kind, message } = error;
  if (kind === "invalid") return new MayflyError("invalid", message);
  const isFull = kind === "no_capacity" || kind === "quota" || kind === "throttled";
  return new MayflyError(isFull ? "too_many" : "unavailable", message, {
    hint: "`mayfly doctor` says what is wrong with a provider.",
  });
}
