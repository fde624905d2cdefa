import { spawn } from "node:child_process";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { MayflyError, ProviderError } from "../domain/errors.ts";
import { counted, listed } from "../domain/words.ts";
import { RunDesk } from "../executor/desk.ts";
import { ArtifactFolder } from "../executor/files.ts";
import { endMachine, hold, runScript } from "../executor/machine.ts";
import { StepFailed } from "../executor/mk.ts";
import { installationOf, RunFolders } from "../executor/run-folders.ts";
import type { Verdict } from "../executor/steps.ts";
import { silentLog } from "../fleet/log.ts";
import { randomWord } from "../fleet/names.ts";
import { guestProgram } from "../guest/program.ts";
import type { Provider } from "../providers/provider.ts";
import { bytesText, duration, sizeText } from "../web/words.ts";
import { chance, newSecret } from "./chance.ts";
import { exit } from "./exit.ts";
import { localTree, type LocalTree } from "./local-tree.ts";
import { defaultStateFolder, makeFolder } from "./places.ts";
import { sweepRuns, endKept } from "./run-leftovers.ts";
import { serveDesk } from "./run-desk.ts";
import { chooseScripts, type ScriptChoice } from "./run-scripts.ts";
import { readSettings, type RunFlags, type RunSettings } from "./run-settings.ts";
import { chooseProvider, type Opened } from "./run-provider.ts";
import { RunView } from "./run-view.ts";
import { print } from "./terminal.ts";

/** How long a machine may take until it asks for work. */
const bootSeconds = 600;
/** How long a machine stays after a failure. */
const keepSeconds = 3600;
/** What the guest adds to a job's own time. */
const reportSeconds = 60;

/** `mayfly run`: a fresh machine here, a repository's tests in it, and nothing left behind. */
export async function run(command: readonly string[], flags: RunFlags): Promise<number> {
  const stateFolder =
    flags.state === undefined ? defaultStateFolder(process.env) : resolve(flags.state);
  makeFolder(stateFolder);
  if (flags.end !== undefined) return endKept(stateFolder, flags.end);
  const signals = new Signals();
  const view = new RunView(flags.json === true, () => signals.stop());
  signals.onFirst = () => view.say("ending it; once more to end it at once");
  try {
    const tree = await repository(flags);
    const settings = await readSettings(flags, tree.top, process.env);
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

interface Whole {
  readonly flags: RunFlags;
  readonly command: readonly string[];
  readonly stateFolder: string;
  readonly signals: Signals;
  readonly view: RunView;
  readonly tree: LocalTree;
  readonly settings: RunSettings;
}

/** Each of the scripts in a machine of its own, until one is kept from running. */
async function runAll(whole: Whole): Promise<number> {
  const { view, tree, settings } = whole;
  const choices = await chooseScripts(whole.command, whole.flags, tree, settings);
  const told = tellLeftOut(tree, view);
  const artifacts = new ArtifactFolder(resolve(settings.artifactFolder));
  const runs: RunSummary[] = [];
  for (const choice of choices) {
    if (choice.title !== null) view.say(`job ${choice.title}`);
    const summary = await runOne(whole, choice, artifacts);
    runs.push(summary);
    if (summary.verdict.how !== "exited" || summary.verdict.endsAll) break;
  }
  await told;
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

interface RunSummary {
  readonly machine: string;
  readonly provider: string;
  readonly verdict: Verdict;
  readonly tookMs: number;
}

async function runOne(
  whole: Whole,
  choice: ScriptChoice,
  artifacts: ArtifactFolder,
): Promise<RunSummary> {
  const { view, signals, settings, stateFolder, flags, tree } = whole;
  const startedAt = Date.now();
  const installation = await installationOf(stateFolder);
  const machine = `${installation}-${randomWord(chance)}`;
  const folders = new RunFolders(stateFolder);
  const guestFolder = join(folders.of(machine), "guest");
  const places = { installation, stateFolder, guestFolder, log: silentLog };
  await sweepRuns(folders, places, view);
  const progress = (line: string): void => view.progress(line);
  const opened = await chooseProvider(settings.provider, places, progress, signals.stopped);
  const { provider, kind, warning } = opened;
  if (warning !== null) view.warn(warning);
  let isKept = false;
  let server: { close: () => Promise<void> } | null = null;
  let isMade = false;
  const archive = new Archive(tree);
  const staysOn = flags.keepOnFail === true || flags.shell === true;
  try {
    const script = choice.script({
      kind,
      machine,
      say: (line) => view.say(line),
      report: (cases) => view.cases(cases),
    });
    refuseUnshellable(flags, opened);
    await folders.make(kind, machine);
    isMade = true;
    const lasting = settings.timeoutSeconds + (flags.keepOnFail ? keepSeconds : 0);
    const claim = newSecret();
    archive.begin();
    const desk = new RunDesk({
      claim,
      session: newSecret(),
      machine,
      now: () => Date.now(),
      source: () => archive.open(),
      environment: {
        MAYFLY_REPOSITORY: tree.name,
        MAYFLY_COMMIT: tree.commit,
        ...settings.environment,
      },
      show: (step, frame) => view.show(step, frame),
      keep: (path, body) => artifacts.keep(path, body),
    });
    server = await serveDesk(desk, join(guestFolder, "guest.sock"));
    const { size } = settings;
    const image = choice.image ?? settings.image;
    progress(
      `starting a machine by ${kind}: ${sizeText(size)}${image === null ? "" : `, ${image}`}`,
    );
    const verdict = await runScript({
      provider,
      spec: { name: machine, size, image, network: settings.network, trust: ["trusted"] },
      program: guestProgram({
        managerUrl: "unix:{guest}",
        claim,
        jobSeconds: lasting,
        lifeSeconds: lasting + reportSeconds + bootSeconds,
      }),
      desk,
      script,
      timeoutSeconds: settings.timeoutSeconds,
      now: () => Date.now(),
      stop: signals.stopped,
      leave: signals.left,
      onStep: (step) => view.stepBegins(step),
      onStepEnd: (step, result, tookMs) => view.stepEnds(step, result, tookMs),
      onUp: (tookMs) => view.progress(`${machine} is up after ${duration(tookMs)}`),
    }).catch((error: unknown) => {
      if (error instanceof StepFailed) return error.verdict;
      throw error;
    });
    view.clear();
    if (staysOn && !signals.stopped.aborted && (flags.shell || isWorthKeeping(verdict))) {
      const folder = await Promise.race([hold(desk), signals.whenStopped()]);
      if (folder !== undefined && flags.shell) {
        const exitCode = await openShell(provider, machine, folder, view);
        const shell: Verdict = { how: "exited", exitCode, detail: "" };
        return { machine, provider: kind, verdict: shell, tookMs: Date.now() - startedAt };
      }
      if (folder !== undefined) {
        isKept = true;
        await folders.keep(machine, Date.now() + keepSeconds * 1000);
        tellKept(machine, provider, folder, view);
      }
    }
    if (verdict.how !== "exited") view.reason(verdict.detail);
    return { machine, provider: kind, verdict, tookMs: Date.now() - startedAt };
  } finally {
    view.clear();
    archive.close();
    if (!isKept && isMade) await endMachine(provider, machine);
    await server?.close();
    if (!isKept) await folders.remove(machine);
    await provider.close();
  }
}

function refuseUnshellable({ shell }: RunFlags, { provider, kind }: Opened): void {
  if (!shell) return;
  if (provider.shellIn === undefined) {
    throw new MayflyError("invalid", `the provider ${kind} has no way into its machines`, {
      where: "--shell",
      hint: "Take --provider podman.",
    });
  }
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new MayflyError("invalid", "a shell needs a terminal", {
      where: "--shell",
      hint: "Give a command instead: mayfly run -- sh -c '…'.",
    });
  }
}

/** Until the person leaves the shell; its exit status is ours. */
async function openShell(
  provider: Provider,
  machine: string,
  folder: string,
  view: RunView,
): Promise<number> {
  view.say(`a shell in ${machine}; leaving it ends the machine`);
  const [tool = "", ...words] = provider.shellIn?.(machine, folder) ?? [];
  return new Promise((settle, reject) => {
    const child = spawn(tool, words, { stdio: "inherit" });
    child.once("error", reject);
    child.once("close", (code) => settle(code ?? exit.interrupted));
  });
}

function isWorthKeeping({ how, exitCode }: Verdict): boolean {
  return how === "timed_out" || (how === "exited" && exitCode !== 0);
}

/** The tree's archive, begun before anybody asks; who asks again gets another. */
class Archive {
  readonly #tree: LocalTree;
  #next: Promise<Readable> | null = null;

  constructor(tree: LocalTree) {
    this.#tree = tree;
  }

  begin(): void {
    this.#next = this.#tree.archive();
    this.#next.then((stream) => stream.on("error", () => {})).catch(() => {});
  }

  open(): Promise<Readable> {
    const next = this.#next ?? this.#tree.archive();
    this.#next = null;
    return next;
  }

  close(): void {
    this.#next?.then((stream) => stream.destroy()).catch(() => {});
  }
}

/** Says how to get into a machine that stays, and how to end it. */
function tellKept(machine: string, provider: Provider, folder: string, view: RunView): void {
  view.warn(`${machine} stays for ${duration(keepSeconds * 1000)}`);
  const way = provider.shellIn?.(machine, folder);
  if (way === undefined) view.say(`its files:     ${folder}`);
  else view.say(`look into it:  ${way.join(" ")}`);
  view.say(`end it:        mayfly run --end ${machine}`);
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

/** The first SIGINT, SIGTERM or SIGHUP ends the test, the second all at once, the third leaves. */
class Signals {
  readonly #stop = new AbortController();
  readonly #leave = new AbortController();
  onFirst: () => void = () => {};

  constructor() {
    process.on("SIGINT", this.#hear).on("SIGTERM", this.#hear).on("SIGHUP", this.#hear);
  }

  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  get left(): AbortSignal {
    return this.#leave.signal;
  }

  stop(): void {
    this.#stop.abort();
  }

  whenStopped(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stop.signal.aborted) resolve();
      else this.#stop.signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  close(): void {
    process.off("SIGINT", this.#hear).off("SIGTERM", this.#hear).off("SIGHUP", this.#hear);
  }

  readonly #hear = (): void => {
    // The next run removes what is left.
    if (this.#leave.signal.aborted) process.exit(exit.interrupted);
    if (this.#stop.signal.aborted) return this.#leave.abort();
    this.onFirst();
    this.#stop.abort();
  };
}
