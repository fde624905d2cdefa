import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { RunDesk } from "../executor/desk.ts";
import { Door } from "../executor/door.ts";
import type { ArtifactFolder } from "../executor/files.ts";
import { hold, runScript } from "../executor/machine.ts";
import { StepFailed } from "../executor/mk.ts";
import { installationOf, RunFolders } from "../executor/run-folders.ts";
import { RunMachine } from "../executor/run-machine.ts";
import type { Script, Verdict } from "../executor/steps.ts";
import { silentLog } from "../fleet/log.ts";
import { randomWord } from "../fleet/names.ts";
import { guestProgram } from "../guest/program.ts";
import { duration, sizeText } from "../web/words.ts";
import { chance, newSecret } from "./chance.ts";
import { exit } from "./exit.ts";
import type { LocalTree } from "./local-tree.ts";
import type { Served } from "./run-desk.ts";
import { sweepRuns } from "./run-kept.ts";
import { chooseProvider, type Opened } from "./run-provider.ts";
import type { ScriptChoice } from "./run-scripts.ts";
import type { RunFlags, RunSettings } from "./run-settings.ts";
import { useShell } from "./run-shell.ts";
import type { Signals } from "./run-signals.ts";
import type { RunView } from "./run-view.ts";

/** How long a machine may take until it asks for work. */
const bootSeconds = 600;
/** How long a machine stays after a failure. */
const keepSeconds = 3600;
/** What the guest adds to a job's own time. */
const reportSeconds = 60;
/** By then a provider that does not say so has begun, too. */
const begunMs = 50;
/** A machine that ran its steps to their end opens its shell at once. */
const knockMs = 60_000;

/** What one call of `mayfly run` is about. */
export interface Whole {
  readonly flags: RunFlags;
  readonly command: readonly string[];
  readonly stateFolder: string;
  readonly signals: Signals;
  readonly view: RunView;
  readonly tree: LocalTree;
  readonly settings: RunSettings;
}

export interface RunSummary {
  readonly machine: string;
  readonly provider: string;
  readonly verdict: Verdict;
  readonly tookMs: number;
}

/** A place for one machine, with what makes it. */
interface Ground {
  readonly machine: string;
  /** Resolves with true when it is time for what the machine needs once it is up; false: never. */
  readonly begun: PromiseWithResolvers<boolean>;
  readonly folders: RunFolders;
  readonly socket: string;
  readonly opened: Opened;
  readonly archive: Archive;
  readonly artifacts: ArtifactFolder;
  readonly word: string;
  readonly door: Door;
}

/**
 * Runs one script in a machine of its own; nothing of it is left unless it is to stay. `meanwhile`
 * is called while it is made.
 */
export async function runOne(
  whole: Whole,
  choice: ScriptChoice,
  artifacts: ArtifactFolder,
  meanwhile: () => void,
): Promise<RunSummary> {
  const { view } = whole;
  const startedAt = Date.now();
  const ground = await prepare(whole, artifacts);
  const { machine, folders, opened, archive, word } = ground;
  const { provider, kind } = opened;
  const [say, report] = [view.say.bind(view), view.cases.bind(view)];
  let isKept = false;
  let end: (() => Promise<void>) | null = null;
  let server: Promise<Served | null> | null = null;
  try {
    const script = choice.script({ kind, machine, say, report });
    await folders.make(kind, machine, word);
    const { desk, claim } = deskOf(whole, ground);
    const own = machineOf(whole, ground, choice, claim);
    end = () => own.end(desk, whole.signals.left);
    await mkdir(dirname(ground.socket), { mode: 0o711 });
    server = serve(ground, desk);
    void ground.begun.promise.then((isBegun) => isBegun && meanwhile());
    setTimeout(ground.begun.resolve, begunMs, true).unref();
    const ran = await Promise.race([ask(whole, own, script, desk), failureOf(server)]);
    view.clear();
    const after = await afterwards(whole, ground, desk, ran);
    isKept = after.isKept;
    if (after.verdict.how !== "exited") view.reason(after.verdict.detail);
    const tookMs = Date.now() - startedAt;
    return { machine, provider: kind, verdict: after.verdict, tookMs };
  } finally {
    view.clear();
    ground.begun.resolve(false);
    await archive.close();
    if (!isKept) await end?.();
    await server?.then((served) => served?.close());
    if (!isKept) await folders.remove(machine);
    await provider.close();
  }
}

/**
 * Makes ready what the machine asks for once it is up. Only when its making goes on by itself: the
 * code for it is the largest part of a run's, and would hold that up.
 */
async function serve(ground: Ground, desk: RunDesk): Promise<Served | null> {
  if (!(await ground.begun.promise)) return null;
  ground.archive.begin();
  const { serveDesk } = await import("./run-desk.ts");
  return serveDesk(desk, ground.door, ground.socket);
}

async function failureOf(promise: Promise<unknown>): Promise<never> {
  await promise;
  return new Promise(() => {});
}

/** Removes what earlier runs left, and gets a provider ready. */
async function prepare(whole: Whole, artifacts: ArtifactFolder): Promise<Ground> {
  const { view, signals, settings, stateFolder, tree } = whole;
  const installation = await installationOf(stateFolder);
  const machine = `${installation}-${randomWord(chance)}`;
  const folders = new RunFolders(stateFolder);
  const guestFolder = join(folders.of(machine), "guest");
  const begun = Promise.withResolvers<boolean>();
  const stays = (): void => begun.resolve(true);
  const places = { installation, stateFolder, guestFolder, log: silentLog, stays };
  await sweepRuns(folders, places, view);
  const progress = (line: string): void => view.progress(line);
  const opened = await chooseProvider(settings.provider, places, progress, signals.stopped);
  if (opened.warning !== null) view.warn(opened.warning);
  const socket = join(guestFolder, "guest.sock");
  // In the run's own folder, so that it goes with what else a killed run leaves.
  const archive = new Archive(tree, folders.of(machine));
  const word = newSecret();
  const door = new Door(word);
  return { machine, begun, folders, socket, opened, archive, artifacts, word, door };
}

interface Desk {
  readonly desk: RunDesk;
  readonly claim: string;
}

function deskOf({ tree, settings, view }: Whole, ground: Ground): Desk {
  const claim = newSecret();
  const desk = new RunDesk({
    claim,
    session: newSecret(),
    machine: ground.machine,
    now: () => Date.now(),
    source: () => ground.archive.open(),
    environment: {
      MAYFLY_REPOSITORY: tree.name,
      MAYFLY_COMMIT: tree.commit,
      ...settings.environment,
    },
    show: (step, frame) => view.show(step, frame),
    keep: (path, body) => ground.artifacts.keep(path, body),
  });
  return { desk, claim };
}

/** The machine as it is wanted; nothing is made yet. */
function machineOf(
  { view, settings, flags }: Whole,
  { machine, opened: { provider, kind } }: Ground,
  choice: ScriptChoice,
  claim: string,
): RunMachine {
  const { size, network, timeoutSeconds } = settings;
  const image = choice.image ?? settings.image;
  const from = image === null ? "" : `, ${image}`;
  view.progress(`starting a machine by ${kind}: ${sizeText(size)}${from}`);
  const jobSeconds = timeoutSeconds + (flags.keepOnFail ? keepSeconds : 0);
  const lifeSeconds = jobSeconds + reportSeconds + bootSeconds;
  const program = guestProgram({ managerUrl: "unix:{guest}", claim, jobSeconds, lifeSeconds });
  const spec = { name: machine, size, image, network, trust: ["trusted"] } as const;
  return new RunMachine(provider, spec, program);
}

/** Makes the machine and runs the script in it. */
async function ask(
  { view, settings, signals }: Whole,
  machine: RunMachine,
  script: Script,
  desk: RunDesk,
): Promise<Verdict> {
  try {
    return await runScript({
      machine,
      desk,
      script,
      timeoutSeconds: settings.timeoutSeconds,
      now: () => Date.now(),
      stop: signals.stopped,
      leave: signals.left,
      onStep: (step) => view.stepBegins(step),
      onStepEnd: (step, result, tookMs) => view.stepEnds(step, result, tookMs),
      onUp: (tookMs) => view.progress(`${machine.name} is up after ${duration(tookMs)}`),
    });
  } catch (error) {
    if (error instanceof StepFailed) return error.verdict;
    throw error;
  }
}

/** The shell that was asked for, or the machine that is to stay. */
async function afterwards(
  { flags, signals, view }: Whole,
  ground: Ground,
  desk: RunDesk,
  verdict: Verdict,
): Promise<{ verdict: Verdict; isKept: boolean }> {
  const { machine, folders, word, opened } = ground;
  const mayStay = !signals.stopped.aborted && isAlive(verdict);
  const isWanted = flags.shell === true || (flags.keepOnFail === true && isFailure(verdict));
  if (!mayStay || !isWanted) return { verdict, isKept: false };
  const patience = AbortSignal.any([signals.stopped, AbortSignal.timeout(knockMs)]);
  const folder = await hold(desk, word, patience);
  if (folder === null) {
    if (!signals.stopped.aborted) view.warn(`${machine} does not answer any more, so it ends`);
    return { verdict, isKept: false };
  }
  if (flags.shell) return { verdict: await shell(ground, view, signals, patience), isKept: false };
  await folders.keep(machine, Date.now() + keepSeconds * 1000);
  view.warn(`${machine} stays for ${duration(keepSeconds * 1000)}`);
  if (opened.kind === "host") view.say(`its files:     ${folder}`);
  view.say(`look into it:  mayfly run --enter ${machine}`);
  view.say(`end it:        mayfly run --end ${machine}`);
  return { verdict, isKept: true };
}

/** Until the person leaves the shell; its exit status is ours. */
async function shell(
  { door, machine }: Ground,
  view: RunView,
  { stopped }: Signals,
  patience: AbortSignal,
): Promise<Verdict> {
  const link = await door.open(patience);
  const lost = `the shell was cut off from ${machine}`;
  if (link === null) return { how: "lost", exitCode: null, detail: lost };
  view.say(`a shell in ${machine}; leaving it ends the machine (stuck? Ctrl-] three times)`);
  const { exitCode, hasLeft } = await useShell(link, stopped);
  if (exitCode !== null) return { how: "exited", exitCode, detail: "" };
  if (hasLeft) return { how: "exited", exitCode: exit.interrupted, detail: "" };
  return { how: "lost", exitCode: null, detail: lost };
}

function isAlive({ how }: Verdict): boolean {
  return how === "exited" || how === "timed_out";
}

function isFailure({ how, exitCode }: Verdict): boolean {
  return how !== "exited" || exitCode !== 0;
}

/** The tree's archive, begun before anybody asks; who asks again gets another. */
class Archive {
  readonly #tree: LocalTree;
  readonly #scratch: string;
  #next: Promise<Readable> | null = null;

  constructor(tree: LocalTree, scratch: string) {
    this.#tree = tree;
    this.#scratch = scratch;
  }

  begin(): void {
    this.#next = this.#tree.archive(this.#scratch);
    this.#next.then((stream) => stream.on("error", () => {})).catch(() => {});
  }

  open(): Promise<Readable> {
    const next = this.#next ?? this.#tree.archive(this.#scratch);
    this.#next = null;
    return next;
  }

  /** Once git has ended, whose folder goes with it. */
  async close(): Promise<void> {
    const stream = await this.#next?.catch(() => null);
    if (stream == null) return;
    const closed = new Promise((resolve) => stream.once("close", resolve));
    if (!stream.destroy().closed) await closed;
  }
}
